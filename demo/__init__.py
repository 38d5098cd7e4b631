"""The whole line on one machine: servers, services, simulated or recorded traffic, and an audit."""
