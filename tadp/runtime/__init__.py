"""What happens while a model is sampling: the controller follows its steps, the dispatcher runs its pieces."""
