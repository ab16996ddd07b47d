"""Posteriors by name, and what is known of each."""

from models.problems.problem import Problem
from models.problems.reference import Reference
from models.problems.zoo import problem, problems

__all__ = ["Problem", "Reference", "problem", "problems"]
