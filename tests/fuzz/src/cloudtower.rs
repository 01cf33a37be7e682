//! What a CloudTower answers, through the real client over TLS on loopback. The first byte chooses the call.

use std::sync::LazyLock;

use gantry_agent::{
    Settings,
    cloudtower::{Client, Error},
};
use gantry_proto::{Redactor, error::causes};
use gantry_sim::net::Identity;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::{
    input::choice,
    server::{Script, during},
    stage::{plan, secrets, wait},
};

/// Calls that can be chosen.
const CALLS: usize = 13;
/// Where a client logs in.
const LOGIN: &str = "/v2/api/login";

static STAGE: LazyLock<(TcpListener, TlsAcceptor, Settings)> = LazyLock::new(|| {
    let address = "127.0.0.1".parse().unwrap();
    let listener = std::net::TcpListener::bind((address, 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut settings = Settings::default();
    settings.cloudtower.port = listener.local_addr().unwrap().port();
    settings.cloudtower.max_response_bytes = 1 << 20;
    let tls = Identity::self_signed("cloudtower", &[address]).unwrap().config();
    (TcpListener::from_std(listener).unwrap(), TlsAcceptor::from(tls), settings)
});

pub(crate) fn run(input: &[u8]) {
    let (chosen, rest) = choice(input);
    let chosen = chosen % CALLS;
    wait(async {
        let (listener, tls, settings) = &*STAGE;
        let client = Client::new(&plan(), &secrets(), settings, &Redactor::new());
        let login = (chosen > 0).then_some((LOGIN, r#"{"data": {"token": "a-token-that-is-long"}}"#));
        let outcome = during(listener, Some(tls), Script::new(rest, login), call(&client, chosen)).await;
        if let Err(error) = outcome {
            let story = causes(&error).join(": ");
            assert!(!story.is_empty() && !story.contains("a-token-that-is-long"));
            error.is_auth();
        }
        client.wipe();
    });
}

async fn call(client: &Client, chosen: usize) -> Result<(), Error> {
    let password = secrets().root_password;
    match chosen {
        0 => client.login().await?,
        1 => drop(client.setup_state().await?),
        2 => client.create_root_user_plain(&password).await?,
        3 => client.create_root_user_encoded(&password).await?,
        4 => drop(client.create_root_user_rest(&password).await?),
        5 => drop(client.create_organization("an organisation").await?),
        6 => drop(client.set_ntp(&["192.0.2.2".to_owned()]).await?),
        7 => drop(client.license().await?),
        8 => {
            client.login().await?;
            drop(client.root_user_id().await?);
        }
        9 => {
            client.login().await?;
            drop(client.change_password("a-user", &password).await?);
        }
        10 => drop(client.organizations().await?),
        11 => drop(client.ntp().await?),
        _ => drop(client.task("a-task").await?),
    }
    Ok(())
}
