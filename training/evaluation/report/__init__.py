"""Pages that people read: the evaluation's report and the model card."""
