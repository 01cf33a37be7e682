//! A line that can be cut: forwards TCP connections until somebody pulls the plug.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A forwarder to one address.
pub(crate) struct Line {
    connections: Arc<Mutex<JoinSet<()>>>,
    _accepting: JoinSet<()>,
    /// Where it listens.
    pub(crate) address: SocketAddr,
}

impl Line {
    /// A line to `target`.
    pub(crate) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(Mutex::new(JoinSet::new()));
        let all = connections.clone();
        let mut accepting = JoinSet::new();
        accepting.spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                all.lock().unwrap().spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { connections, _accepting: accepting, address }
    }

    /// Ends every connection; new ones are taken.
    pub(crate) fn cut(&self) {
        self.connections.lock().unwrap().abort_all();
    }
}
