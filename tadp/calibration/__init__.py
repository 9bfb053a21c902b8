"""Errors and costs of lower levels, measured on sample content, and the score that predicts the errors."""
