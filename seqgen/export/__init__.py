"""Trained models in forms that other programs and other people take."""
