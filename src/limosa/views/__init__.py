"""What a person or a program is shown: pure functions and sums of values, without I/O."""
