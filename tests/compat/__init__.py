"""The published clients of the wire API against ours."""
