//! A broker with a listener of each kind: TLS, mutual TLS, SASL over both, and two whose
//! certificates nobody should take. Who logs in may do everything, but for [`LIMITED`].

use crate::certificates::{CLIENT, Certificates, Holder};
use crate::kafka::tokens::{ISSUER, Issuer};
use crate::port;

use super::{Kafka, Listener, Shape};

/// A user of PLAIN and of both SCRAMs who may do everything.
pub const USER: &str = "shop";

/// The password of [`USER`].
pub const PASSWORD: &str = "a-password-which-nobody-may-log";

/// A user of PLAIN who may do what ACLs allow him.
pub const LIMITED: &str = "limited";

/// Another's token says that it is he.
pub const SUBJECT: &str = "orders-pipeline";

/// A way to the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// TLS, and no login.
    Tls,
    /// TLS, and a certificate of the client is the login.
    MutualTls,
    /// TLS with a certificate that has ended.
    Expired,
    /// TLS with the certificate of another host.
    Elsewhere,
    /// A login over TLS.
    SaslTls,
    /// A login in the clear.
    SaslPlaintext,
}

const WAYS: [Way; 6] = [
    Way::Tls,
    Way::MutualTls,
    Way::Expired,
    Way::Elsewhere,
    Way::SaslTls,
    Way::SaslPlaintext,
];

impl Way {
    fn name(self) -> &'static str {
        match self {
            Way::Tls => "TLS",
            Way::MutualTls => "MUTUAL",
            Way::Expired => "EXPIRED",
            Way::Elsewhere => "ELSEWHERE",
            Way::SaslTls => "LOGIN",
            Way::SaslPlaintext => "CLEAR",
        }
    }

    /// What clients call it: `security.protocol`.
    pub fn protocol(self) -> &'static str {
        match self {
            Way::Tls | Way::MutualTls | Way::Expired | Way::Elsewhere => "SSL",
            Way::SaslTls => "SASL_SSL",
            Way::SaslPlaintext => "SASL_PLAINTEXT",
        }
    }

    fn holder(self) -> Option<Holder> {
        match self {
            Way::Tls | Way::MutualTls | Way::SaslTls => Some(Holder::Server),
            Way::Expired => Some(Holder::Expired),
            Way::Elsewhere => Some(Holder::Elsewhere),
            Way::SaslPlaintext => None,
        }
    }

    fn has_login(self) -> bool {
        matches!(self, Way::SaslTls | Way::SaslPlaintext)
    }

    fn properties(self, certificates: &Certificates) -> String {
        let mut lines = String::new();
        let prefix = format!("listener.name.{}", self.name().to_lowercase());
        let mut set = |name: &str, value: &str| {
            lines.push_str(&format!("{prefix}.{name}={value}\n"));
        };
        if let Some(holder) = self.holder() {
            let file = certificates.identity(holder);
            set("ssl.keystore.type", "PEM");
            set("ssl.keystore.location", &file.display().to_string());
        }
        if self == Way::MutualTls {
            let file = certificates.authority();
            set("ssl.client.auth", "required");
            set("ssl.truststore.type", "PEM");
            set("ssl.truststore.location", &file.display().to_string());
        }
        if self.has_login() {
            const MODULES: &str = "org.apache.kafka.common.security";
            let scram = format!("{MODULES}.scram.ScramLoginModule required;");
            set(
                "sasl.enabled.mechanisms",
                "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER",
            );
            set(
                "plain.sasl.jaas.config",
                &format!(
                    "{MODULES}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\" \
                     user_{LIMITED}=\"{PASSWORD}\";"
                ),
            );
            set("scram-sha-256.sasl.jaas.config", &scram);
            set("scram-sha-512.sasl.jaas.config", &scram);
            set(
                "oauthbearer.sasl.jaas.config",
                &format!("{MODULES}.oauthbearer.OAuthBearerLoginModule required;"),
            );
            set(
                "oauthbearer.sasl.server.callback.handler.class",
                &format!("{MODULES}.oauthbearer.OAuthBearerValidatorCallbackHandler"),
            );
            // Whoever has logged in by a token is sent away when that ends.
            set("oauthbearer.connections.max.reauth.ms", "3600000");
        }
        lines
    }
}

/// The broker and its ways in.
pub struct Secured {
    kafka: Kafka,
    ports: Vec<(Way, u16)>,
}

impl Secured {
    /// Starts it, with certificates of `certificates`; it takes tokens of `issuer`.
    ///
    /// # Panics
    ///
    /// As [`Kafka::new`].
    pub fn new(certificates: &Certificates, issuer: &Issuer) -> Self {
        let ports = WAYS.map(|way| (way, port::free()));
        let mut properties = format!(
            "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:CN={CLIENT};User:{USER};User:{SUBJECT}\n\
             sasl.oauthbearer.jwks.endpoint.url=file://{}\n\
             sasl.oauthbearer.expected.issuer={ISSUER}\n",
            issuer.keys().display()
        );
        for (way, _) in ports {
            properties.push_str(&way.properties(certificates));
        }
        let scram = ["SCRAM-SHA-256", "SCRAM-SHA-512"];
        let kafka = Kafka::of(Shape {
            listeners: ports
                .iter()
                .map(|&(way, port)| Listener {
                    name: way.name(),
                    protocol: way.protocol(),
                    port,
                    advertised: port,
                })
                .collect(),
            properties,
            format: scram
                .iter()
                .flat_map(|mechanism| {
                    let user = format!("{mechanism}=[name={USER},password={PASSWORD}]");
                    ["--add-scram".to_owned(), user]
                })
                .collect(),
            // The broker reads keys from where it is told that it may.
            java: vec![
                format!(
                    "-Dorg.apache.kafka.sasl.oauthbearer.allowed.urls=file://{}",
                    issuer.keys().display()
                ),
                format!(
                    "-Dorg.apache.kafka.sasl.oauthbearer.allowed.files={}",
                    issuer.keys().display()
                ),
            ],
            ..Shape::default()
        });
        Secured {
            kafka,
            ports: ports.to_vec(),
        }
    }

    /// The broker, as the harness sees it.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// As [`Kafka::kill`].
    pub fn kill(&mut self) {
        self.kafka.kill();
    }

    /// As [`Kafka::start`].
    ///
    /// # Panics
    ///
    /// As there.
    pub fn start(&mut self) {
        self.kafka.start();
    }

    /// What clients are given as `bootstrap.servers` to come this way.
    ///
    /// # Panics
    ///
    /// If there is no such way.
    pub fn brokers(&self, way: Way) -> String {
        let found = self.ports.iter().find(|(known, _)| *known == way);
        match found {
            Some((_, port)) => format!("127.0.0.1:{port}"),
            None => panic!("no listener for {way:?}"),
        }
    }
}
