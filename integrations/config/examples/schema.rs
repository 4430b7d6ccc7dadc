//! Prints the JSON schema of a configuration file, which is published as `claviger.schema.json`.

#![expect(clippy::print_stdout, reason = "it is what the example is for")]

fn main() {
    println!("{:#}", claviger_config::Config::json_schema());
}
