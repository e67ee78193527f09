"""Measuring: examinations after each lesson, the judge, and what a matrix of scores says about forgetting."""
