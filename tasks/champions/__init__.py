"""Who is champion, how a version becomes it, and how it is no more."""
