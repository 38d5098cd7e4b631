"""What is learned from many transactions: simulated traffic, training sets, models, evaluation."""
