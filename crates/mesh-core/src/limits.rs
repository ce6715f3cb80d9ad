//! Every limit of the protocol and of this node's memory, each with its reason.

use std::time::Duration;

/// Longest route, counted in hops: nine routers and the destination. Longer routes cost more in fees and delay than
/// any payer accepted in the networks studied, and it bounds every list that names a path.
pub const MAX_HOPS: usize = 10;

/// Largest payload of one packet, in bytes: one Bitcoin transaction of standard size fits with room.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;

/// Largest frame of a packet, in bytes: the payload, its inner header, ten tags and the header.
pub const MAX_FRAME_BYTES: usize = MAX_PAYLOAD_BYTES + 512;

/// Largest control message, in bytes: ten hops' attestations and invoices of a kilobyte each fit.
pub const MAX_CONTROL_BYTES: usize = 32 * 1024;

/// The unit that prices are quoted in: one packet costs one unit per started KiB of sealed payload.
pub const UNIT_BYTES: usize = 1024;

/// Longest name of a protocol that packets are delivered to, in bytes.
pub const MAX_PROTOCOL_ID_BYTES: usize = 64;

/// The inner header before a payload: one byte of length and the protocol's name.
pub const MAX_INNER_HEADER_BYTES: usize = MAX_PROTOCOL_ID_BYTES + 1;

/// How long a discovery waits for answers unless the caller says otherwise.
pub const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(30);

/// The longest a caller may let a discovery go on: its rounds grow ever longer, so more would find nothing new.
pub const MAX_DISCOVERY_TIME: Duration = Duration::from_secs(300);

/// How long relays remember a request: 5 s longer than anybody answers it. Who hears of it later may answer later; within
/// this time an honest neighbour's late answer is told from one nobody asked for.
pub const RELAY_MEMORY: Duration = Duration::from_secs(35);

/// Branches of one discovery round: as many as routes are kept.
pub const MAX_BRANCHES: usize = MAX_ROUTES_PER_DESTINATION;

/// Nodes that a request may ask to go around: the routers of two or three paths that stayed silent.
pub const MAX_AVOIDED_NODES: usize = 8;

/// Silent paths that a discovery remembers, to go around them: those of its last two rounds.
pub const MAX_SILENT_PATHS: usize = 2 * MAX_ROUTES_PER_DESTINATION;

/// How far a ring reaches in the first round and in the second, in hops; then as far as the caller allows. Most
/// destinations are near, and a flood of ten hops reaches everybody.
pub const RING_HOPS: [u8; 2] = [2, 4];

/// Requests of others that a node passes on per second: rings, which go over all links; and as many routes and branches
/// over each link. Together they are half of what a neighbour takes, so that there is room for answers, quotes and opens.
pub const DISCOVERIES_PASSED_PER_SECOND: u64 = CONTROL_MESSAGES_PER_SECOND / 4;

/// The same at once, after a quiet time.
pub const DISCOVERIES_PASSED_BURST: u64 = CONTROL_BURST / 4;

/// Nonces of its own that a node remembers after their discovery ended, so that late answers are still taken.
pub const MAX_ASKED_NONCES: usize = 65_536;

/// How often an unanswered discovery, quote request or open is repeated: a lost message costs half a second.
pub const RETRY_INTERVAL: Duration = Duration::from_millis(500);

/// How long a discovered route stays usable.
pub const ROUTE_LIFETIME: Duration = Duration::from_secs(3600);

/// Routes kept per destination.
pub const MAX_ROUTES_PER_DESTINATION: usize = 4;

/// Feasible next hops that a destination is shown with: as many as discovery keeps paths. With price and expiry they fit
/// into 48 bytes of the snapshot.
pub const MAX_ALTERNATIVES: usize = 4;

/// Destinations a node keeps discovered routes for.
pub const MAX_ROUTE_DESTINATIONS: usize = 4096;

/// Copies of one discovery request that a node relays: one for each of up to four different ways it came, so that
/// the requester learns of alternatives while a flood stays within four messages per directed link.
pub const MAX_COPIES_PER_REQUEST: usize = 4;

/// Answers a destination gives to one request: twice the routes kept, since some will overlap.
pub const MAX_ANSWERS_PER_REQUEST: usize = 8;

/// Discovery and quote requests remembered for relaying answers back. 30 s at the budget of all neighbours fit.
pub const MAX_PENDING_RELAYS: usize = 65_536;

/// Packets that one command may send: enough that waking the loop and answering cost little beside sealing, few enough
/// that others are served between two commands. Together they hold no more than the largest single payload.
pub const MAX_PACKETS_PER_COMMAND: usize = 64;

/// Commands of one's own that may be under way at once.
pub const MAX_PENDING_COMMANDS: usize = 1024;

/// How long quotes along one route are waited for at the most: a payee answers as soon as its wallet has made an invoice,
/// and where one stays silent another route is tried.
pub const QUOTE_TIMEOUT: Duration = Duration::from_secs(8);

/// How long an open may stay unanswered before it is given up; proofs are waited for within it.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a payee waits for its wallet to report an invoice as settled before refusing the open. Long enough for
/// the last round of commitment signatures, short enough that a flood of unsettled proofs holds no state for long.
pub const SETTLEMENT_WAIT: Duration = Duration::from_secs(5);

/// How long a quoted invoice may be paid. Short, so that unpaid quotes are forgotten soon.
pub const PAY_BY: Duration = Duration::from_secs(600);

/// How long after pay-by a settled payment can be redeemed: a payer that was down for a day loses nothing.
pub const REDEEM_AFTER_PAY_BY: Duration = Duration::from_secs(24 * 3600);

/// How long a single-use hash is remembered at the least. Never shorter than a proof can be shown.
pub const REPLAY_MEMORY: Duration = Duration::from_secs(24 * 3600);

/// Open quotes a payee holds at once, all payers together.
pub const MAX_OPEN_QUOTES: usize = 65_536;

/// Open quotes a payee holds for requests that came over one neighbour: a flooding neighbour fills its own share only.
pub const MAX_OPEN_QUOTES_PER_NEIGHBOUR: usize = 4096;

/// Sessions a node takes part in at once, as router or destination.
pub const MAX_SESSIONS: usize = 65_536;

/// Sessions that come from one neighbour or go to it: one that opens sessions at the price of a single unit each fills
/// its own share of the table only.
pub const MAX_SESSIONS_PER_NEIGHBOUR: usize = MAX_SESSIONS / 4;

/// Free sessions per neighbour: free traffic must not crowd out paid.
pub const MAX_FREE_SESSIONS_PER_NEIGHBOUR: usize = 256;

/// Prepaid accounts a payee keeps. An account with credit is never evicted.
pub const MAX_ACCOUNTS: usize = 1_048_576;

/// How long a session without traffic is kept: its keys and its room are needed by nobody.
pub const SESSION_IDLE: Duration = Duration::from_secs(600);

/// How long a session that its source closed still lets pass what is on its way back: the last receipt.
pub const CLOSE_LINGER: Duration = Duration::from_secs(2);

/// How long a session lives after it was opened.
pub const SESSION_LIFETIME: Duration = Duration::from_secs(3600);

/// How much an account may be drawn in memory before the draw is handed to the disk, in msat: a record for about a
/// thousand packets at the default price. The next follows when that one is durable.
pub const ACCOUNT_LEASE_MSAT: u64 = 10_000;

/// The most that a crash may cost a hop, in msat: what packets drew from all accounts together and is not yet known to be
/// durable. Payers may spend it again. With a thousand sats nobody minds to lose, a third of a second of a full 2-core
/// node's traffic at the default price waits for the disk before packets are refused.
pub const CRASH_LOSS_MSAT: u64 = 1_000_000;

/// Leases handed to the disk in one step: more would keep packets waiting.
pub const LEASES_PER_STEP: usize = 64;

/// Sequence numbers a replay window covers behind the highest one seen: packets overtaken by fewer others are told
/// apart exactly, for 256 bytes per session and direction.
pub const SEQUENCE_WINDOW: u64 = 2048;

/// Bytes that may come back on a session for free, to start with: the ack, errors and first receipts.
pub const BACK_ALLOWANCE_BASE_BYTES: u64 = 8 * 1024;

/// Bytes that may come back for each unit drawn: a receipt of 250 bytes for every sixteen packets.
pub const BACK_ALLOWANCE_BYTES_PER_UNIT: u64 = 16;

/// A destination signs a receipt after this many packets…
pub const RECEIPT_EVERY_PACKETS: u64 = 256;

/// …or when this much time passed with packets not yet receipted.
pub const RECEIPT_INTERVAL: Duration = Duration::from_millis(200);

/// Control messages one neighbour may send per second, sustained.
pub const CONTROL_MESSAGES_PER_SECOND: u64 = 200;

/// Control messages one neighbour may send at once after being quiet.
pub const CONTROL_BURST: u64 = 1000;

/// The least share that is worth a Lightning payment, in msat: common nodes refuse smaller HTLCs.
pub const MIN_SHARE_MSAT: u64 = 1000;

/// The most blocks that a Lightning payment may lock its payer's money for: a week. A payee that accepts and then sits
/// on the payment holds the money that long.
pub const MAX_PAYMENT_CLTV_BLOCKS: u32 = 1008;

/// The largest slice that is bought to keep a session funded, in units: 16 MiB of payload. Slices double up to it.
pub const MAX_SLICE_UNITS: u64 = 16_384;

/// A session that is kept funded is renewed this long before its time is over.
pub const RENEW_SESSION_BEFORE: Duration = Duration::from_secs(300);

/// How long after a purchase failed the next is tried; twice as long after each further failure…
pub const TOP_UP_RETRY: Duration = Duration::from_secs(1);

/// …up to this.
pub const TOP_UP_RETRY_MOST: Duration = Duration::from_secs(60);

/// How long a whole purchase may take, from the first probe to the last payment: one time for all payees, so that a payee
/// that stalls does not add up with the next.
pub const PURCHASE_TIMEOUT: Duration = Duration::from_secs(25);

/// How long the wallet may look whether a payee can be paid.
pub const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// Neighbours with a link or a session that refers to them.
pub const MAX_NEIGHBOURS: usize = 16_384;

/// Opens waiting for the wallet's word at once, all neighbours together.
pub const MAX_PENDING_OPENS: usize = 4096;

/// Quote requests waiting for the wallet's invoice at once.
pub const MAX_PENDING_INVOICES: usize = 4096;

/// Requests of one neighbour remembered for relaying answers back: all it may send within [`RELAY_MEMORY`] fit. A flooder
/// fills its own share only.
pub const MAX_PENDING_RELAYS_PER_NEIGHBOUR: usize = 8192;

/// How long after the first answer a discovery waits for alternatives before it returns what it has.
pub const DISCOVERY_GATHER: Duration = Duration::from_millis(100);

/// How often tables are swept for what has expired.
pub const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(5);

/// Shortest time between two errors of one hop on one session: an error is never an amplifier.
pub const HOP_ERROR_INTERVAL: Duration = Duration::from_millis(100);

/// Sources told of a broken link in one step: more would keep packets waiting behind the sealing of errors.
pub const BREAK_ERRORS_PER_STEP: usize = 32;

/// Pause between two such steps: packets go first.
pub const BREAK_STEP_PAUSE: Duration = Duration::from_millis(1);

/// Sources told of one broken link without a longer pause: half of [`CONTROL_BURST`], so that the neighbour who passes
/// the errors on takes them all and still hears everything else.
pub const BREAK_ERRORS_AT_ONCE: usize = 512;

/// Pause between two steps for the sources behind those: a hundred a second, half of [`CONTROL_MESSAGES_PER_SECOND`].
/// Who sends meanwhile learns of the break by the packet that ends there.
pub const BREAK_STEP_PAUSE_LATER: Duration = Duration::from_millis(320);

/// How long the source of a session waits for a receipt that its allowance pays for before it takes the session for
/// silent. A receipt is due within [`RECEIPT_INTERVAL`] and one trip: this leaves room for ten slow hops each way.
pub const SESSION_SILENT_AFTER: Duration = Duration::from_secs(3);

/// The longest frame of a receipt, in bytes: header, nine tags, four numbers, the signature and the seal.
pub const MAX_RECEIPT_FRAME_BYTES: u64 = 325;

/// The longest frame of an ack, in bytes: header, nine tags, one byte and the seal.
pub const MAX_ACK_FRAME_BYTES: u64 = 205;

/// Nodes that a source remembers as part of silent routes: ten for each of four routes to a hundred destinations.
pub const MAX_BLAMED_NODES: usize = 4096;

/// Routes whose round trips a source remembers from receipts: one of each destination that it may know routes to.
pub const MAX_TIMED_PATHS: usize = 4096;

/// What one operator may cost a payer within a day, in msat, by packets that nobody receipted and credit that was denied:
/// a thousand satoshis. Then it sells that payer nothing more.
pub const MAX_LOSS_PER_DAY_MSAT: u64 = 1_000_000;

/// Operators whose thefts are remembered.
pub const MAX_LOSERS: usize = 4096;

/// Nodes whose earnings from this node are remembered for shares: far more than one node pays in a day.
pub const MAX_WEIGHED_NODES: usize = 16_384;

/// Nodes whose earnings are written down in one step, and the most that wait for it: as many as five hundred receipts
/// over routes of ten hops concern, and some milliseconds of the disk's thread.
pub const WEIGHTS_PER_STEP: usize = 4096;

/// Ties that one node shows to what makes nodes one entity: an operator, a Lightning node, and the addresses that a
/// node may announce, twice over.
pub const MAX_TIES_PER_NODE: usize = 16;

/// Payees a payer keeps unredeemed proofs or credit at.
pub const MAX_PURSES: usize = 65_536;

/// Longest name of a module that callers are told apart by, in bytes.
pub const MAX_MODULE_NAME_BYTES: usize = 64;

/// Destinations whose share of the auto-pay budget is kept account of. A purchase costs at least [`MIN_SHARE_MSAT`], so
/// whoever wants to fill this with destinations of his own needs a budget of four thousand times that.
pub const MAX_SPENDING_DESTINATIONS: usize = 4096;

/// Callers whose share of the auto-pay budget is kept account of: the modules of one node.
pub const MAX_SPENDING_CALLERS: usize = 256;

/// Auto-payments of the last day that are written down one by one, so that a restart refills no budget: three in four
/// seconds, all day.
pub const MAX_SPENDING_RECORDS: usize = 65_536;

/// Sessions of one's own at once.
pub const MAX_OWN_SESSIONS: usize = 4096;

/// How far apart two honest clocks may be: a message from this far in the future is still accepted.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// How long an announcement holds: as long as a route may be kept.
pub const ANNOUNCEMENT_LIFETIME: Duration = ROUTE_LIFETIME;

/// How often a node announces itself anew though nothing changed: early enough that one lost hour never makes it vanish.
/// A shorter period floods: a thousand nodes at one minute are 17 announcements a second over every link.
pub const ANNOUNCEMENT_REFRESH: Duration = Duration::from_secs(1800);

/// Shortest time between two announcements whose contents changed: a link that flaps costs everybody one in five seconds.
pub const ANNOUNCEMENT_INTERVAL: Duration = Duration::from_secs(5);

/// How long a node waits for further changes before it announces one: after a start, links come up together.
pub const ANNOUNCEMENT_SETTLING: Duration = Duration::from_secs(2);

/// Seqnos taken ahead with one durable record: a restarted node goes on behind them.
pub const SEQNO_LEASE: u64 = 64;

/// Shortest time between two seqnos that others asked for, sustained: whoever asks in a loop makes everybody carry one
/// announcement in two seconds…
pub const SEQNO_INTERVAL: Duration = Duration::from_secs(2);

/// …after this many at once.
pub const SEQNO_BURST: u32 = 8;

/// Shortest time between two announcements of one origin that a node hands on, sustained: more than an honest one makes
/// ([`SEQNO_INTERVAL`], [`ANNOUNCEMENT_INTERVAL`]), so that only whoever signs them all the time waits…
pub const HANDED_ON_INTERVAL: Duration = Duration::from_secs(1);

/// …after this many at once.
pub const HANDED_ON_BURST: u32 = 16;

/// Neighbours that an announcement lists: a body stays below ten kilobytes, so that it fits an update with others.
pub const MAX_LISTED_NEIGHBOURS: usize = 256;

/// Addresses that an announcement names.
pub const MAX_ANNOUNCED_ADDRESSES: usize = 4;

/// Longest address, in bytes: an onion address with its port is 68.
pub const MAX_ADDRESS_BYTES: usize = 128;

/// Announcements in one routing update: their signatures are a millisecond of a worker's time.
pub const MAX_ANNOUNCEMENTS_PER_UPDATE: usize = 32;

/// Routes in one routing update: taking them in is one step of the core and stays within its 50 µs.
pub const MAX_ROUTES_PER_UPDATE: usize = 256;

/// Largest metric of the cost plane. Honest links cost at most 31, so it is reached after two thousand hops.
pub const MAX_COST: u32 = 65_535;

/// How often a request for a seqno is handed on: routes of the cost plane may be longer than a packet's route.
pub const MAX_REQUEST_HOPS: u8 = 64;

/// Nodes on one page of the network's state.
pub const MAX_NETWORK_PAGE: usize = 256;

/// A link that lived for this long is no flapping one.
pub const STABLE_LINK: Duration = Duration::from_secs(30);

/// Short lives in a row that a link is forgiven: a neighbour that restarts twice is used again at once.
pub const FORGIVEN_FLAPS: u32 = 2;

/// First pause before a flapping link is used for routes again; doubles with every further short life…
pub const FLAP_PAUSE: Duration = Duration::from_secs(1);

/// …up to this.
pub const FLAP_PAUSE_MOST: Duration = Duration::from_secs(60);

/// Flapping neighbours remembered.
pub const MAX_FLAPPING_NEIGHBOURS: usize = 4096;

/// Destinations that routing keeps, with or without a route.
pub const MAX_DESTINATIONS: usize = 262_144;

/// Destinations that one neighbour may have told of first: keys are free, so a neighbour could name millions. Others'
/// room is not his.
pub const MAX_DESTINATIONS_PER_NEIGHBOUR: usize = MAX_DESTINATIONS / 2;

/// Shortest wait before a change of a route is told: what changes together goes out together.
pub const UPDATE_DELAY: Duration = Duration::from_millis(10);

/// The wait is longer by up to this, by chance, so that neighbours do not all speak at once.
pub const UPDATE_JITTER: Duration = Duration::from_millis(30);

/// Pause between the updates of a table that does not fit one: with as many acknowledgements it stays below
/// [`CONTROL_MESSAGES_PER_SECOND`].
pub const UPDATE_PACE: Duration = Duration::from_millis(15);

/// Wait before something is told that makes nothing reachable or nearer: a fresher seqno, and to a next hop that this
/// node no longer is a way for it.
pub const LAZY_UPDATE_DELAY: Duration = Duration::from_secs(1);

/// An update that is not acknowledged is repeated after this long, then after twice as long, and so on…
pub const UPDATE_TIMEOUT: Duration = Duration::from_secs(1);

/// …up to this.
pub const UPDATE_TIMEOUT_MOST: Duration = Duration::from_secs(8);

/// How long a node without a feasible route waits for one before it asks for a fresh seqno.
pub const STARVING_DELAY: Duration = Duration::from_millis(100);

/// How long a better but infeasible route must last before a seqno is asked for that would allow it.
pub const DETOUR_DELAY: Duration = Duration::from_secs(4);

/// A request for a seqno is repeated after this long, then after twice as long, and so on: one-shot requests starve
/// nodes whenever one is lost.
pub const REQUEST_INTERVAL: Duration = Duration::from_secs(1);

/// Longest pause between repetitions of a request of a node that has no route at all.
pub const REQUEST_INTERVAL_MOST: Duration = Duration::from_secs(16);

/// Longest pause between repetitions of a request of a node that has a route and would like a better one.
pub const DETOUR_INTERVAL_MOST: Duration = Duration::from_secs(64);

/// The same request is handed on once in this time.
pub const REQUEST_SUPPRESSION: Duration = Duration::from_millis(500);

/// Shortest time between two requests to one neighbour, sustained: they take a fifth of [`CONTROL_MESSAGES_PER_SECOND`],
/// so that a node that lost its way to thousands is still heard when it tells of routes and acknowledges others'…
pub const REQUEST_PACE: Duration = Duration::from_millis(25);

/// …after this many at once, half of [`CONTROL_BURST`].
pub const REQUEST_BURST: u32 = 500;

/// Shortest time between two requests of one neighbour that are handed on, sustained. Each may make an origin announce
/// itself to everybody, and one neighbour does not take the whole of [`REQUEST_PACE`] from the others…
pub const HANDED_ON_REQUEST_PACE: Duration = Duration::from_millis(50);

/// …after this many at once.
pub const HANDED_ON_REQUEST_BURST: u32 = 250;

/// Neighbours remembered as waiting for one requested seqno.
pub const MAX_REQUESTERS: usize = 8;

/// Neighbours asked in one round of requests: those with the best infeasible routes.
pub const MAX_ASKED_NEIGHBOURS: usize = 4;

/// How long a destination without a route is remembered, and with it the feasible distance that keeps loops away: far
/// longer than any news of it is under way.
pub const DESTINATION_MEMORY: Duration = Duration::from_secs(600);

/// Nodes whose announcements are kept: many times the largest public payment and mesh networks studied, in about
/// 100 MB when each lists a dozen others that list it too.
pub const MAX_GRAPH_NODES: usize = 262_144;

/// Neighbours listed in all announcements together, sixteen a node when the graph is full. An edge that counts is two
/// of them. One that is not returned takes 34 bytes, so invented ones fill 143 MB at the most.
pub const MAX_GRAPH_LISTINGS: usize = 4_194_304;

/// The least share that is worth an output on the chain, in msat: above what any node calls dust, and more than
/// spending it costs at a common feerate.
pub const MIN_CHAIN_SHARE_MSAT: u64 = 1_000_000;

/// How long a quoted script may be paid: a payer signs, and hands the transaction to the network, within an hour.
pub const CHAIN_PAY_BY: Duration = Duration::from_secs(3600);

/// How long after pay-by a payment on the chain can be redeemed: a transaction with a low fee waits for days.
pub const CHAIN_REDEEM_AFTER_PAY_BY: Duration = Duration::from_secs(7 * 24 * 3600);

/// Quoted scripts that a payee holds at once, all payers together.
pub const MAX_OUTPUT_QUOTES: usize = 32_768;

/// Quoted scripts that a payee holds for requests that came over one neighbour: scripts are quoted for nothing and
/// remembered for a week, so a flooding neighbour fills its own share only.
pub const MAX_OUTPUT_QUOTES_PER_NEIGHBOUR: usize = 2048;

/// Blocks upon a payment after which it is taken for final, and no longer looked after: as many as consensus lets lie
/// upon new coins before they can be spent.
pub const FINAL_DEPTH: u32 = 100;

/// Honoured outputs looked after at once, until they are final: 40 a block.
pub const MAX_WATCHED_OUTPUTS: usize = 4096;

/// Least time between two looks at the chain that are out of turn, because the host told of a change: blocks come every ten
/// minutes, and a look costs the Bitcoin node as many look-ups as there are honoured outputs.
pub const CHAIN_RECHECK_EVERY: Duration = Duration::from_secs(1);

/// Blocks that the chain source is asked about at once: all in which outputs are not yet final, with room for those that
/// left the best chain.
pub const MAX_BLOCKS_ASKED: usize = 256;

/// Honoured outputs whose transactions are looked up at once.
pub const MAX_OUTPUTS_ASKED: usize = 64;

/// Quotes of others to be paid on the chain that a payer remembers, so that it knows what its payment is worth.
pub const MAX_BILLS: usize = 4096;
