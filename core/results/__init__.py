"""The results folder: its layout, its records and its summary."""
