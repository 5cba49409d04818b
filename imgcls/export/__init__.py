"""Files to put a model to work elsewhere, each with a proof that it answers as it does here."""
