//! Claviger's provider for AWS Secrets Manager.
