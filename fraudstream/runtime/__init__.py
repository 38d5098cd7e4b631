"""What any process of this project needs of its machine."""
