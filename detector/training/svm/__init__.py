"""Linear SVMs with hard-negative mining (paper, section 4.1)."""
