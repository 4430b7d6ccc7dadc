//! The server's settings, which OpenBao and Vault both understand.

use std::path::Path;

use crate::ports::HOST;
use crate::tls::{CERTIFICATE_FILE, KEY_FILE};

/// Returns the settings. Raft is the only persistent storage of both; `folder` contains a folder
/// `data` for it. `tls_port` is that of a second listener.
pub(super) fn text(folder: &Path, port: u16, tls_port: Option<u16>) -> String {
    let quoted = |path: &Path| format!("{:?}", path.to_string_lossy());
    let mut text = format!(
        r#"storage "raft" {{
  path = {data}
  node_id = "one"
  performance_multiplier = 1
}}
listener "tcp" {{
  address = "{HOST}:{port}"
  cluster_address = "{HOST}:0"
  tls_disable = true
}}
disable_mlock = true
api_addr = "http://{HOST}:{port}"
cluster_addr = "https://{HOST}:1"
"#,
        data = quoted(&folder.join("data")),
    );
    if let Some(port) = tls_port {
        text.push_str(&format!(
            r#"listener "tcp" {{
  address = "{HOST}:{port}"
  cluster_address = "{HOST}:0"
  tls_cert_file = {certificate}
  tls_key_file = {key}
}}
"#,
            certificate = quoted(&folder.join(CERTIFICATE_FILE)),
            key = quoted(&folder.join(KEY_FILE)),
        ));
    }
    text
}
