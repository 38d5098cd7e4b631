"""Archive: accepted transactions, decisions and labels become Parquet files, each row once."""
