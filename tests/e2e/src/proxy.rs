//! A bad line on loopback: forwards TCP to one target and makes of it, while it runs, what lines do: late, narrow, cut,
//! half open, black-holed, impatient with idle streams. Knows nothing of what it carries.
//!
//! Bytes that a dead direction holds back are not lost: they go on when it is alive again, as TCP would send them again.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpSocket, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

/// Bytes that are read at once.
const PIECE: usize = 16 << 10;
/// Pieces of one direction that are under way.
const UNDER_WAY: usize = 64;
/// Buffers of the sockets: a narrow line must be felt by who sends.
const SOCKET_BUFFER: u32 = 64 << 10;

/// One direction of the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    /// How long everything is under way.
    pub delay: Duration,
    /// Bytes a second; `None`: as many as come.
    pub rate: Option<u64>,
    /// Nothing arrives.
    pub dead: bool,
}

/// What the line is like. The default passes everything at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mode {
    /// To the target.
    pub up: Way,
    /// From the target.
    pub down: Way,
    /// Every connection is reset, and each new one too.
    pub refuse: bool,
    /// A connection on which nothing moved for so long is reset.
    pub idle_limit: Option<Duration>,
}

impl Mode {
    /// Everything passes.
    pub const PASS: Self = Self {
        up: Way { delay: Duration::ZERO, rate: None, dead: false },
        down: Way { delay: Duration::ZERO, rate: None, dead: false },
        refuse: false,
        idle_limit: None,
    };

    /// Late and narrow, the same in both directions.
    pub fn slow(delay: Duration, rate: Option<u64>) -> Self {
        let way = Way { delay, rate, dead: false };
        Self { up: way, down: way, ..Self::PASS }
    }

    /// Connections stay open, and nothing passes.
    pub fn black_hole() -> Self {
        let dead = Way { dead: true, ..Way::default() };
        Self { up: dead, down: dead, ..Self::PASS }
    }

    /// Nothing reaches the target; what it says still arrives.
    pub fn deaf() -> Self {
        Self { down: Way::default(), ..Self::black_hole() }
    }

    /// Everything reaches the target; nothing that it says arrives.
    pub fn mute() -> Self {
        Self { up: Way::default(), ..Self::black_hole() }
    }

    /// No connection stands.
    pub fn refuse() -> Self {
        Self { refuse: true, ..Self::PASS }
    }

    /// Connections are reset after so long without a byte.
    pub fn impatient(limit: Duration) -> Self {
        Self { idle_limit: Some(limit), ..Self::PASS }
    }
}

/// What the proxy has seen so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Connections that were accepted, refused ones too.
    pub connections: u64,
    /// Connections that were reset because nothing moved.
    pub idle_cuts: u64,
    /// Bytes that were taken from who dials.
    pub up: u64,
    /// Bytes that were taken from the target.
    pub down: u64,
}

/// A running proxy. Everything ends when it is dropped.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    line: watch::Sender<Line>,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

/// The mode, and how often everything was cut.
#[derive(Clone, Copy, Debug, Default)]
struct Line {
    mode: Mode,
    cuts: u64,
}

#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    idle_cuts: AtomicU64,
    up: AtomicU64,
    down: AtomicU64,
}

/// Which of the two directions.
#[derive(Clone, Copy, Debug)]
enum Direction {
    Up,
    Down,
}

impl Proxy {
    /// Listens on loopback, on a port that the kernel chooses, and forwards to `target`.
    pub fn start(target: SocketAddr) -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_recv_buffer_size(SOCKET_BUFFER)?;
        socket.set_send_buffer_size(SOCKET_BUFFER)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let listener = socket.listen(128)?;
        let address = listener.local_addr()?;
        let (line, counts) = (watch::Sender::new(Line::default()), Arc::new(Counts::default()));
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, target, line.subscribe(), counts.clone()));
        Ok(Self { address, line, counts, _tasks: tasks })
    }

    /// Where to dial.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the line, for the connections that are open too.
    pub fn set(&self, mode: Mode) {
        self.line.send_modify(|line| line.mode = mode);
    }

    /// Resets all connections that are open; new ones are taken as the mode says.
    pub fn cut(&self) {
        self.line.send_modify(|line| line.cuts += 1);
    }

    /// What it has seen so far.
    pub fn seen(&self) -> Seen {
        let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
        let Counts { connections, idle_cuts, up, down } = &*self.counts;
        Seen { connections: count(connections), idle_cuts: count(idle_cuts), up: count(up), down: count(down) }
    }
}

async fn accept(listener: TcpListener, target: SocketAddr, line: watch::Receiver<Line>, counts: Arc<Counts>) {
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((client, _)) => {
                counts.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(connection(client, target, line.clone(), counts.clone()));
            }
            // No file descriptors, perhaps: not forever.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}

async fn connection(mut client: TcpStream, target: SocketAddr, mut line: watch::Receiver<Line>, counts: Arc<Counts>) {
    let mut gate = line.clone();
    let born = line.borrow().cuts;
    let dialled = async {
        alive(&mut gate, Direction::Up).await;
        dial(target).await
    };
    let server = tokio::select! {
        biased;
        () = severed(&mut line, born) => None,
        server = dialled => server.ok(),
    };
    let Some(mut server) = server else { return reset(&client) };
    let _ = client.set_nodelay(true);
    let last = Mutex::new(Instant::now());
    let orderly = {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = server.split();
        let mut watched = line.clone();
        let up = pipe(&mut from_client, &mut to_server, Direction::Up, &line, &counts.up, &last);
        let down = pipe(&mut from_server, &mut to_client, Direction::Down, &line, &counts.down, &last);
        tokio::select! {
            biased;
            () = severed(&mut watched, born) => false,
            () = idle(line.clone(), &last) => {
                counts.idle_cuts.fetch_add(1, Ordering::Relaxed);
                false
            }
            ended = async { tokio::try_join!(up, down) } => ended.is_ok(),
        }
    };
    if !orderly {
        reset(&client);
        reset(&server);
    }
}

async fn dial(target: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    let server = socket.connect(target).await?;
    server.set_nodelay(true)?;
    Ok(server)
}

/// One direction: reading at the line's rate, writing when the delay is over and the line alive.
async fn pipe(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    direction: Direction,
    line: &watch::Receiver<Line>,
    count: &AtomicU64,
    last: &Mutex<Instant>,
) -> io::Result<()> {
    let (pieces, mut under_way) = mpsc::channel::<(Instant, Vec<u8>)>(UNDER_WAY);
    let reading = async move {
        let mut piece = vec![0; PIECE];
        loop {
            let way = way(line, direction);
            // A narrow line takes a twentieth of a second's worth at once.
            let most = way.rate.map_or(PIECE, |rate| usize::try_from(rate / 20).unwrap_or(PIECE).clamp(1, PIECE));
            let n = from.read(&mut piece[..most]).await?;
            if n == 0 {
                return Ok::<_, io::Error>(());
            }
            count.fetch_add(n as u64, Ordering::Relaxed);
            touch(last);
            if let Some(rate) = way.rate {
                sleep(Duration::from_secs(1).mul_f64(n as f64 / rate.max(1) as f64)).await;
            }
            if pieces.send((Instant::now() + way.delay, piece[..n].to_vec())).await.is_err() {
                return Ok(());
            }
        }
    };
    let writing = async {
        let mut gate = line.clone();
        while let Some((due, piece)) = under_way.recv().await {
            sleep_until(due).await;
            alive(&mut gate, direction).await;
            to.write_all(&piece).await?;
            touch(last);
        }
        // The end of a stream travels like everything else.
        sleep(way(line, direction).delay).await;
        alive(&mut gate, direction).await;
        to.shutdown().await
    };
    tokio::try_join!(reading, writing).map(drop)
}

/// Returns when the direction is not dead.
async fn alive(line: &mut watch::Receiver<Line>, direction: Direction) {
    if line.wait_for(|line| !of(&line.mode, direction).dead).await.is_err() {
        // The proxy is going away, and this with it.
        std::future::pending::<()>().await;
    }
}

/// Returns when everything is to be cut.
async fn severed(line: &mut watch::Receiver<Line>, born: u64) {
    let _ = line.wait_for(|line| line.mode.refuse || line.cuts != born).await;
}

/// Returns when nothing moved for as long as the line's patience lasts.
async fn idle(mut line: watch::Receiver<Line>, last: &Mutex<Instant>) {
    loop {
        let limit = line.borrow_and_update().mode.idle_limit;
        let until = limit.map(|limit| *last.lock().unwrap_or_else(PoisonError::into_inner) + limit);
        tokio::select! {
            changed = line.changed() => if changed.is_err() { return },
            () = async { sleep_until(until.unwrap_or_else(Instant::now)).await }, if until.is_some() => {
                let seen = *last.lock().unwrap_or_else(PoisonError::into_inner);
                if limit.is_some_and(|limit| seen.elapsed() >= limit) {
                    return;
                }
            }
        }
    }
}

fn way(line: &watch::Receiver<Line>, direction: Direction) -> Way {
    *of(&line.borrow().mode, direction)
}

fn of(mode: &Mode, direction: Direction) -> &Way {
    match direction {
        Direction::Up => &mode.up,
        Direction::Down => &mode.down,
    }
}

fn touch(last: &Mutex<Instant>) {
    *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

/// The peer gets RST, not FIN.
fn reset(stream: &TcpStream) {
    let _ = stream.set_zero_linger();
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    const SHORT: Duration = Duration::from_millis(300);
    const LONG: Duration = Duration::from_secs(10);

    /// A target that sends back what it gets, and a proxy before it.
    async fn echo() -> (Proxy, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut echoes = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                echoes.spawn(async move {
                    let (mut read, mut write) = stream.split();
                    let _ = tokio::io::copy(&mut read, &mut write).await;
                    let _ = write.shutdown().await;
                });
            }
        });
        (proxy, tasks)
    }

    async fn dial(proxy: &Proxy) -> TcpStream {
        timeout(LONG, TcpStream::connect(proxy.address())).await.unwrap().unwrap()
    }

    /// Sends a word and waits for it to come back.
    async fn says(stream: &mut TcpStream, word: &[u8]) -> io::Result<()> {
        stream.write_all(word).await?;
        hears(stream, word).await
    }

    async fn hears(stream: &mut TcpStream, word: &[u8]) -> io::Result<()> {
        let mut heard = vec![0; word.len()];
        timeout(LONG, stream.read_exact(&mut heard)).await.map_err(io::Error::other)??;
        assert_eq!(heard, word);
        Ok(())
    }

    async fn hears_nothing(stream: &mut TcpStream) {
        timeout(SHORT, stream.read_u8()).await.expect_err("something came through");
    }

    #[tokio::test]
    async fn everything_passes_in_order_and_the_end_too() {
        let (proxy, _echo) = echo().await;
        let mut stream = dial(&proxy).await;
        let sent: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
        let (mut read, mut write) = stream.split();
        let sending = async {
            write.write_all(&sent).await.unwrap();
            write.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        timeout(LONG, async { tokio::join!(sending, read.read_to_end(&mut got)).1.unwrap() }).await.unwrap();
        assert!(got == sent);
        assert_eq!(proxy.seen(), Seen { connections: 1, idle_cuts: 0, up: 3_000_000, down: 3_000_000 });
    }

    #[tokio::test]
    async fn a_delay_is_felt_both_ways_and_narrows_nothing() {
        let (proxy, _echo) = echo().await;
        proxy.set(Mode::slow(Duration::from_millis(150), None));
        let mut stream = dial(&proxy).await;
        let began = Instant::now();
        says(&mut stream, b"there").await.unwrap();
        assert!(began.elapsed() >= Duration::from_millis(300), "{:?}", began.elapsed());
        let began = Instant::now();
        says(&mut stream, &vec![7; 512 << 10]).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(3), "half a megabyte took {:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_narrow_line_takes_its_time() {
        let (proxy, _echo) = echo().await;
        proxy.set(Mode { up: Way { rate: Some(100_000), ..Way::default() }, ..Mode::PASS });
        let mut stream = dial(&proxy).await;
        let began = Instant::now();
        says(&mut stream, &[7; 50_000]).await.unwrap();
        let took = began.elapsed();
        assert!((Duration::from_millis(450)..Duration::from_secs(3)).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn a_black_hole_holds_old_and_new_connections_and_lets_go() {
        let (proxy, _echo) = echo().await;
        let mut old = dial(&proxy).await;
        says(&mut old, b"before").await.unwrap();
        proxy.set(Mode::black_hole());
        let mut new = dial(&proxy).await;
        old.write_all(b"old").await.unwrap();
        new.write_all(b"new").await.unwrap();
        tokio::join!(hears_nothing(&mut old), hears_nothing(&mut new));
        proxy.set(Mode::PASS);
        hears(&mut old, b"old").await.unwrap();
        hears(&mut new, b"new").await.unwrap();
    }

    #[tokio::test]
    async fn a_black_hole_takes_no_more_than_its_buffers() {
        let (proxy, _echo) = echo().await;
        proxy.set(Mode::black_hole());
        let mut stream = dial(&proxy).await;
        let flood = timeout(SHORT, stream.write_all(&vec![1; 64 << 20])).await;
        flood.expect_err("64 MiB went into the hole");
        assert!(proxy.seen().up <= (UNDER_WAY * PIECE + 2 * PIECE) as u64, "{:?}", proxy.seen());
    }

    #[tokio::test]
    async fn each_half_of_a_line_may_be_dead_alone() {
        let (proxy, _echo) = echo().await;
        let mut stream = dial(&proxy).await;
        says(&mut stream, b"before").await.unwrap();
        let before = proxy.seen();
        proxy.set(Mode::mute());
        stream.write_all(b"one").await.unwrap();
        hears_nothing(&mut stream).await;
        assert_eq!(proxy.seen().down, before.down + 3, "it reached the target, whose answer is held");
        proxy.set(Mode::deaf());
        hears(&mut stream, b"one").await.unwrap();
        stream.write_all(b"two").await.unwrap();
        hears_nothing(&mut stream).await;
        assert_eq!(proxy.seen().down, before.down + 3);
    }

    #[tokio::test]
    async fn a_cut_resets_what_is_open_and_a_refusing_line_everything() {
        let (proxy, _echo) = echo().await;
        let mut first = dial(&proxy).await;
        says(&mut first, b"x").await.unwrap();
        proxy.cut();
        let cut = timeout(LONG, first.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(cut.kind(), io::ErrorKind::ConnectionReset);
        let mut second = dial(&proxy).await;
        says(&mut second, b"x").await.unwrap();
        proxy.set(Mode::refuse());
        timeout(LONG, second.read_u8()).await.unwrap().unwrap_err();
        let mut third = dial(&proxy).await;
        assert!(matches!(timeout(LONG, third.read_u8()).await, Ok(Err(_))), "a new one is refused too");
        proxy.set(Mode::PASS);
        says(&mut dial(&proxy).await, b"x").await.unwrap();
    }

    #[tokio::test]
    async fn a_stream_that_is_idle_is_cut_and_one_that_is_not_stays() {
        let (proxy, _echo) = echo().await;
        let mut busy = dial(&proxy).await;
        says(&mut busy, b"x").await.unwrap();
        proxy.set(Mode::impatient(Duration::from_millis(1_000)));
        let until = Instant::now() + Duration::from_millis(2_500);
        while Instant::now() < until {
            says(&mut busy, b"beat").await.unwrap();
            sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(proxy.seen().idle_cuts, 0);
        timeout(LONG, busy.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(proxy.seen().idle_cuts, 1);
    }

    #[tokio::test]
    async fn a_target_that_is_not_there_is_a_reset() {
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let proxy = Proxy::start(gone).unwrap();
        let mut stream = dial(&proxy).await;
        assert!(timeout(LONG, stream.read_u8()).await.unwrap().is_err());
    }
}
