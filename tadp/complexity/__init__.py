"""How complex the content is: from the prompt, from the image, and from what the model itself shows."""
