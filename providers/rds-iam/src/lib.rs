//! Claviger's provider for RDS IAM authentication tokens.
