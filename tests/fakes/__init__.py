"""Working stand-ins for parts that a machine may lack, or that must behave badly."""
