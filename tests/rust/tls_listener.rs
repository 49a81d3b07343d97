//! The TLS address with real sockets: certificates by server name, alerts, and bytes carried both ways.
#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use aigw_core::snapshot::{Policy, file};
use aigw_core::telemetry::handshakes::Handshake;
use aigw_io::secret::Sealer;
use aigw_io::tls_listener::{Carried, Certificates, Host, Listener, Stop};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned,
};
use serde_json::{Value, json};

const EC: (&str, &str) = (include_str!("certificates/ec.pem"), include_str!("certificates/ec.key"));
const RSA: (&str, &str) = (include_str!("certificates/rsa.pem"), include_str!("certificates/rsa.key"));
const OTHER: (&str, &str) = (include_str!("certificates/other.pem"), include_str!("certificates/other.key"));

fn sealer() -> Sealer {
    Sealer::new(&[7; 32])
}

fn pair((chain, key): (&str, &str)) -> Value {
    json!({"chain": chain, "key": sealer().seal(key.as_bytes()).unwrap()})
}

fn policy(certificates: &Value) -> Policy {
    let policy = json!({
        "services": [], "routes": [], "key_auth": [], "rate_limiting": [], "size_limiting": [], "acl": [],
        "certificates": certificates, "default_tier": null, "tiers": [], "models": [], "columns": [],
    });
    file::policy(&file::seal(policy.to_string().as_bytes()).unwrap().file).unwrap()
}

/// These certificates in force, and the pairs that cannot be used.
fn with_policy(held: &Certificates, certificates: &Value) -> (Option<Certificates>, Vec<String>) {
    let (renewed, unusable) = held.with_policy(&policy(certificates), |sealed| sealer().open(sealed)).unwrap();
    (renewed, unusable.into_iter().map(|one| format!("{}: {}", one.at, one.why)).collect())
}

/// A worker that has certificates and nothing else.
struct Bare {
    connections: AtomicU64,
    certificates: Mutex<Arc<Certificates>>,
    results: Mutex<Vec<Handshake>>,
}

impl Host for Bare {
    fn certificates(&self) -> Arc<Certificates> {
        Arc::clone(&self.certificates.lock().unwrap())
    }

    fn connections(&self) -> &AtomicU64 {
        &self.connections
    }

    fn handshake(&self, result: Handshake) {
        self.results.lock().unwrap().push(result);
    }

    fn panicked(&self) {
        // A panic within a panic ends the tests here.
        std::process::abort();
    }
}

/// A TLS address before a server that sends every byte back.
struct Served {
    address: SocketAddr,
    host: Arc<Bare>,
    carried: Arc<Carried>,
    stop: Stop,
    /// Ports of the connections that came to the server, with the clients that were noted for them.
    came: Arc<Mutex<Vec<Option<SocketAddr>>>>,
}

fn serve(certificates: Certificates) -> Served {
    let (server, socket) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (carried, came) = (Arc::<Carried>::default(), Arc::<Mutex<Vec<_>>>::default());
    let host = Arc::new(Bare {
        connections: AtomicU64::new(0),
        certificates: Mutex::new(Arc::new(certificates)),
        results: Mutex::default(),
    });
    let (address, private) = (socket.local_addr().unwrap(), server.local_addr().unwrap());
    let (listener, stop) = Listener::new(socket, private, Arc::clone(&host), Arc::clone(&carried)).unwrap();
    std::thread::spawn(move || listener.run());
    let (known, noted) = (Arc::clone(&carried), Arc::clone(&came));
    std::thread::spawn(move || {
        for connection in server.incoming() {
            let (known, noted) = (Arc::clone(&known), Arc::clone(&noted));
            std::thread::spawn(move || echo(connection.unwrap(), &known, &noted));
        }
    });
    Served { address, host, carried, stop, came }
}

fn echo(mut connection: TcpStream, carried: &Carried, came: &Mutex<Vec<Option<SocketAddr>>>) {
    let mut buffer = vec![0; 64 * 1024];
    let mut first = true;
    while let Ok(bytes @ 1..) = connection.read(&mut buffer) {
        if std::mem::take(&mut first) {
            came.lock().unwrap().push(carried.client(connection.peer_addr().unwrap()));
        }
        if connection.write_all(&buffer[..bytes]).is_err() {
            return;
        }
    }
}

/// Takes any certificate, by these schemes.
#[derive(Debug)]
struct Anything(Vec<SignatureScheme>);

impl ServerCertVerifier for Anything {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.clone()
    }
}

const BOTH: &[SignatureScheme] = &[SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::RSA_PSS_SHA256];

/// A client's connection and the PEM's second line of the certificate that it got. `name`: an address asks for no name.
fn connect(
    served: &Served,
    name: &str,
    schemes: &[SignatureScheme],
) -> std::io::Result<(StreamOwned<ClientConnection, TcpStream>, Vec<u8>)> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anything(schemes.to_vec())))
        .with_no_client_auth();
    let session = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    let socket = TcpStream::connect(served.address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = StreamOwned::new(session, socket);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    let shown = stream.conn.peer_certificates().unwrap()[0].to_vec();
    Ok((stream, shown))
}

fn shown(served: &Served, name: &str) -> Vec<u8> {
    connect(served, name, BOTH).unwrap().1
}

fn der((chain, _): (&str, &str)) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject as _;
    CertificateDer::from_pem_slice(chain.as_bytes()).unwrap().to_vec()
}

/// The alert by which the handshake of a client ends.
fn alert(served: &Served, name: &str, schemes: &[SignatureScheme]) -> AlertDescription {
    let error = connect(served, name, schemes).err().unwrap();
    match error.into_inner().unwrap().downcast::<Error>().map(|error| *error) {
        Ok(Error::AlertReceived(alert)) => alert,
        other => unreachable!("no alert came: {other:?}"),
    }
}

#[test]
fn name_chooses_the_certificate_and_the_pair_of_the_settings_serves_others() {
    let certificates = json!([
        {"names": ["a.example"], "pairs": [pair(EC)]},
        {"names": ["*.example", "c.*"], "pairs": [pair(OTHER)]},
    ]);
    let (chosen, unusable) = with_policy(&Certificates::none().unwrap(), &certificates);
    let served = serve(chosen.unwrap());
    assert_eq!(unusable, Vec::<String>::new());
    assert_eq!(shown(&served, "A.example"), der(EC));
    assert_eq!(shown(&served, "b.example"), der(OTHER));
    assert_eq!(shown(&served, "c.test"), der(OTHER));
    for unknown in ["b.test", "x.a.example", "127.0.0.1"] {
        assert_eq!(alert(&served, unknown, BOTH), AlertDescription::UnrecognisedName, "{unknown}");
    }
    let pem = [RSA.0, RSA.1].concat();
    let with_default = served.host.certificates().with_default(pem.as_bytes()).unwrap();
    *served.host.certificates.lock().unwrap() = Arc::new(with_default);
    assert_eq!(shown(&served, "b.test"), der(RSA));
    assert_eq!(shown(&served, "127.0.0.1"), der(RSA));
    assert_eq!(shown(&served, "a.example"), der(EC));
    // A client is done a moment before the server is.
    wait("every handshake is counted", || served.host.results.lock().unwrap().len() == 9);
    let results = served.host.results.lock().unwrap();
    let count = |result| results.iter().filter(|own| **own == result).count();
    assert_eq!((count(Handshake::Done), count(Handshake::NoCertificate)), (6, 3));
}

fn wait(what: &str, happened: impl Fn() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !happened() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn client_gets_the_kind_of_key_that_it_wants_most() {
    let certificates = json!([{"names": ["*"], "pairs": [pair(RSA), pair(EC)]}]);
    let served = serve(with_policy(&Certificates::none().unwrap(), &certificates).0.unwrap());
    let shown = |schemes: &[SignatureScheme]| connect(&served, "a.example", schemes).unwrap().1;
    assert_eq!(shown(BOTH), der(EC));
    assert_eq!(shown(&[BOTH[1], BOTH[0]]), der(RSA));
    assert_eq!(shown(&BOTH[1..]), der(RSA));
    assert_eq!(alert(&served, "a.example", &[SignatureScheme::ED25519]), AlertDescription::HandshakeFailure);
}

#[test]
fn pair_that_cannot_be_used_is_left_out_and_told_once() {
    let foreign = json!({"chain": EC.0, "key": Sealer::new(&[8; 32]).seal(EC.1.as_bytes()).unwrap()});
    let certificates = json!([
        {"names": ["a.example"], "pairs": [pair((EC.0, OTHER.1)), pair(("no PEM", EC.1)), pair((EC.0, "no key")), foreign]},
        {"names": ["*"], "pairs": [pair((RSA.0, EC.1)), pair(OTHER)]},
    ]);
    let (renewed, unusable) = with_policy(&Certificates::none().unwrap(), &certificates);
    let places: Vec<_> = unusable.iter().map(|text| text.split(':').next().unwrap()).collect();
    let first = ["certificates[0].pairs[0]", "certificates[0].pairs[1]", "certificates[0].pairs[2]"];
    assert_eq!(places[..3], first);
    assert_eq!(places[3..], ["certificates[0].pairs[3]", "certificates[1].pairs[0]"]);
    assert!(unusable.iter().all(|text| !text.contains("MIG")), "no byte of a key is told: {unusable:?}");
    let renewed = renewed.unwrap();
    assert!(with_policy(&renewed, &certificates).0.is_none(), "an unchanged set changes nothing");
    let mut longer = certificates.clone();
    longer.as_array_mut().unwrap().push(json!({"names": ["b.test"], "pairs": [pair(EC)]}));
    let (longer, told_again) = with_policy(&renewed, &longer);
    assert!(longer.is_some() && told_again.is_empty());
    assert!(renewed.with_default(b"no PEM").is_err());
    let served = serve(renewed);
    assert_eq!(shown(&served, "a.example"), der(OTHER), "the next best certificate serves");
}

#[test]
fn replaced_certificate_is_shown_to_the_next_client_and_open_connections_go_on() {
    let first = json!([{"names": ["a.example"], "pairs": [pair(EC)]}]);
    let served = serve(with_policy(&Certificates::none().unwrap(), &first).0.unwrap());
    let (mut open, before) = connect(&served, "a.example", BOTH).unwrap();
    let second = json!([{"names": ["a.example"], "pairs": [pair(OTHER)]}]);
    let renewed = with_policy(&served.host.certificates(), &second).0.unwrap();
    *served.host.certificates.lock().unwrap() = Arc::new(renewed);
    assert_eq!((before, shown(&served, "a.example")), (der(EC), der(OTHER)));
    say(&mut open, b"still here");
}

fn say(stream: &mut StreamOwned<ClientConnection, TcpStream>, text: &[u8]) {
    stream.write_all(text).unwrap();
    stream.flush().unwrap();
    let mut got = vec![0; text.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(got, text);
}

#[test]
fn bytes_pass_both_ways_and_the_client_is_noted_before_its_first_byte() {
    let served = serve(Certificates::none().unwrap().with_default([EC.0, EC.1].concat().as_bytes()).unwrap());
    let (mut stream, _) = connect(&served, "a.example", BOTH).unwrap();
    let client = stream.sock.local_addr().unwrap();
    say(&mut stream, b"hello");
    assert_eq!((served.carried.open(), served.came.lock().unwrap().clone()), (1, vec![Some(client)]));
    assert_eq!(served.host.connections.load(Ordering::Relaxed), 1);
    let large: Vec<u8> = (0..4_000_000_u32).map(|n| u8::try_from(n % 251).unwrap()).collect();
    let mut reader = stream.sock.try_clone().unwrap();
    // Nobody reads until most was sent: the server's echo must wait without losing a byte.
    for piece in large.chunks(50_000) {
        say(&mut stream, piece);
    }
    stream.conn.send_close_notify();
    stream.conn.complete_io(&mut stream.sock).unwrap();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert!(rest.is_empty(), "a clean end after the client's own");
    assert_eq!(reader.read(&mut [0; 8]).unwrap(), 0);
    wait("the client is forgotten", || served.carried.open() == 0);
    wait("no connection is open", || served.host.connections.load(Ordering::Relaxed) == 0);
}

#[test]
fn stopped_listener_takes_no_client_and_its_connections_go_on() {
    let served = serve(Certificates::none().unwrap().with_default([EC.0, EC.1].concat().as_bytes()).unwrap());
    let (mut stream, _) = connect(&served, "a.example", BOTH).unwrap();
    served.stop.stop();
    wait("it takes no client", || connect(&served, "a.example", BOTH).is_err());
    say(&mut stream, b"still here");
}
