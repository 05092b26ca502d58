"""Published set-ups as flagfiles, and what they need beside the package."""
