//! Region in the name of an endpoint.

/// Domains of AWS's partitions, from botocore's `endpoints.json`: commercial and GovCloud,
/// China, the isolated ones, the European Sovereign Cloud.
const DOMAINS: [&str; 7] = [
    "amazonaws.com",
    "amazonaws.com.cn",
    "c2s.ic.gov",
    "sc2s.sgov.gov",
    "cloud.adc-e.uk",
    "csp.hci.ic.gov",
    "amazonaws.eu",
];

/// Returns the region in the name of an RDS endpoint: `NAME.ID.REGION.rds.DOMAIN`, in China also
/// `NAME.ID.rds.REGION.DOMAIN`. Instances, clusters and proxies differ only in `ID`. Returns `None`
/// for any other host.
pub fn region_of_endpoint(host: &str) -> Option<&str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let name = DOMAINS
        .iter()
        .find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'))?;
    let mut labels = name.rsplit('.');
    let region = match (labels.next()?, labels.next()?) {
        ("rds", region) | (region, "rds") => region,
        _ => return None,
    };
    // An endpoint also has the name of the instance.
    labels
        .next()
        .filter(|_| has_aws_form(region))
        .map(|_| region)
}

/// Returns whether this is the writer endpoint of an Aurora global database,
/// `NAME.global-ID.global.rds.DOMAIN`. Its region changes at a failover, and a token is valid in
/// one region only.
pub(crate) fn is_global(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    let name = DOMAINS
        .iter()
        .find_map(|domain| host.strip_suffix(domain)?.strip_suffix('.'));
    name.is_some_and(|name| name.ends_with(".global.rds"))
}

/// Returns whether the region has at least three parts between hyphens, the last of them a number:
/// `us-gov-west-1`.
fn has_aws_form(region: &str) -> bool {
    let mut parts = region.rsplit('-');
    let is_part = |part: &str| {
        !part.is_empty()
            && part
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
    };
    parts
        .next()
        .is_some_and(|last| !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()))
        && parts.clone().count() >= 2
        && parts.all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_global_endpoint_is_recognised() {
        assert!(is_global("orders.global-c1a2b3.global.rds.amazonaws.com"));
        assert!(!is_global(
            "orders.cluster-c1a2b3.us-east-1.rds.amazonaws.com"
        ));
        assert!(!is_global("global.rds.example.com"));
    }

    #[test]
    fn endpoint_names_contain_their_region() {
        for (host, region) in [
            ("orders.c1a2b3.eu-west-1.rds.amazonaws.com", "eu-west-1"),
            (
                "orders.cluster-c1a2b3.us-east-1.rds.amazonaws.com",
                "us-east-1",
            ),
            (
                "orders.cluster-ro-c1a2b3.ap-southeast-4.rds.amazonaws.com",
                "ap-southeast-4",
            ),
            (
                "orders.proxy-c1a2b3.us-west-2.rds.amazonaws.com",
                "us-west-2",
            ),
            (
                "readers.endpoint.proxy-c1a2b3.us-west-2.rds.amazonaws.com",
                "us-west-2",
            ),
            (
                "orders.c1a2b3.us-gov-west-1.rds.amazonaws.com",
                "us-gov-west-1",
            ),
            (
                "orders.c1a2b3.rds.cn-north-1.amazonaws.com.cn",
                "cn-north-1",
            ),
            (
                "orders.c1a2b3.cn-northwest-1.rds.amazonaws.com.cn",
                "cn-northwest-1",
            ),
            (
                "orders.c1a2b3.us-iso-east-1.rds.c2s.ic.gov",
                "us-iso-east-1",
            ),
            (
                "orders.c1a2b3.rds.us-isob-east-1.sc2s.sgov.gov",
                "us-isob-east-1",
            ),
            (
                "orders.c1a2b3.eusc-de-east-1.rds.amazonaws.eu",
                "eusc-de-east-1",
            ),
            ("orders.c1a2b3.eu-west-1.rds.amazonaws.com.", "eu-west-1"),
        ] {
            assert_eq!(region_of_endpoint(host), Some(region), "{host}");
        }
    }

    #[test]
    fn other_names_contain_no_region() {
        for host in [
            "localhost",
            "db.example.com",
            "[::1]",
            "rds.amazonaws.com",
            "eu-west-1.rds.amazonaws.com",
            "orders.c1a2b3.eu-west-1.rds.amazonaws.com.example.com",
            "orders.c1a2b3.eu-west-1.rds.notamazonaws.com",
            "orders.c1a2b3.somewhere.rds.amazonaws.com",
            "orders.c1a2b3.eu-west-1.ec2.amazonaws.com",
            "amazonaws.com",
            "",
        ] {
            assert_eq!(region_of_endpoint(host), None, "{host}");
        }
    }
}
