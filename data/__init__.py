"""Where data comes from and what it must look like."""
