"""Texts: tables of them, and passes over their ids."""
