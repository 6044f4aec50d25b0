"""Passes: pure functions from a Program to a Program, or from a body's operators to operators."""
