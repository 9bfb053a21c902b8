"""Files on disk that outlive a process: calibrations, and what tells the model that one belongs to."""
