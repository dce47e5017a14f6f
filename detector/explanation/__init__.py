"""Why a box scores what it does: shares of the score by cell, heat maps, and what became of a box."""
