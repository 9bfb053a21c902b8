"""What a run leaves behind: clips, a JSON document, a picture of its plan, and a table on the terminal."""
