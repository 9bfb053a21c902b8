"""What quantizing costs, measured on sample content: by content, and what predicts it."""
