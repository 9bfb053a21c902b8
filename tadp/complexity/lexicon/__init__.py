"""Closed word lists of the text score, one file a language: relations, change, and the words that join others."""
