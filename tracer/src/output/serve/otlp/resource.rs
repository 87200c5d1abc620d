//! Who tells: attributes of resources, and how attributes are made.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;

/// What tcptrail calls itself.
pub(super) const SELF: &str = "tcptrail";

pub(super) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, Value::StringValue(value.into()))
}

pub(super) fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

pub(super) fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

/// This machine, and what the environment says of it.
#[derive(Clone, Debug)]
pub(super) struct Machine {
    version: String,
    /// The host's.
    name: String,
    host: Vec<KeyValue>,
    /// As given: they win over what is found out.
    given: Vec<KeyValue>,
}

impl Machine {
    pub(super) fn new(version: &str, given: &[(String, String)]) -> Machine {
        let uname = rustix::system::uname();
        let named = given.iter().find(|(key, _)| key == "host.name");
        let name = named.map_or_else(
            || uname.nodename().to_string_lossy().into_owned(),
            |(_, name)| name.clone(),
        );
        let arch = uname.machine().to_string_lossy().into_owned();
        let host = vec![
            text("host.name", name.as_str()),
            // As the conventions have it.
            text(
                "host.arch",
                match arch.as_str() {
                    "x86_64" => "amd64".to_owned(),
                    "aarch64" => "arm64".to_owned(),
                    _ => arch,
                },
            ),
            text("os.type", "linux"),
        ];
        let given = given.iter().map(|(key, value)| text(key, value.as_str())).collect();
        Machine { version: version.to_owned(), name, host, given }
    }

    /// tcptrail itself, which tells metrics. Prometheus makes `job` of the service's name and `instance` of its instance.
    pub(super) fn ourselves(&self) -> Resource {
        let own = vec![
            text("service.name", SELF),
            text("service.version", self.version.as_str()),
            text("service.instance.id", self.name.as_str()),
        ];
        self.resource(own, &self.given)
    }

    /// Something that runs here.
    pub(super) fn of(&self, own: Vec<KeyValue>) -> Resource {
        // What is said of the service is said of tcptrail.
        let given = self.given.iter().filter(|given| !given.key.starts_with("service."));
        self.resource(own, &given.cloned().collect::<Vec<_>>())
    }

    fn resource(&self, own: Vec<KeyValue>, given: &[KeyValue]) -> Resource {
        let mut attributes = [own, self.host.clone()].concat();
        attributes.retain(|one| given.iter().all(|given| given.key != one.key));
        attributes.extend_from_slice(given);
        Resource { attributes, ..Resource::default() }
    }

    /// What the data is made by.
    pub(super) fn scope(&self) -> InstrumentationScope {
        InstrumentationScope {
            name: SELF.to_owned(),
            version: self.version.clone(),
            ..InstrumentationScope::default()
        }
    }
}
