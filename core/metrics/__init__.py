"""Measuring a results folder."""
