//! What a node says, and what is made of it.

use std::sync::Arc;

use super::*;

#[path = "../../../tests/chain_node/fake.rs"]
mod fake;

use fake::{FakeChain, id, paying};

const DESCRIPTOR: &str = "wpkh(tpubD6NzVbkrYhZ4XgiXtGrdW5XDAPFCL9h7we1vwNCpn8tGbBcgfVYjXyhWo4E1xkh56hjod1RhGjxbaTLV3X4FyWuejifB9jusQ46QzG87VKp/0/*)";

struct Desk {
    node: Arc<FakeChain>,
    source: NodeChain,
    folder: tempfile::TempDir,
}

impl Desk {
    /// A chain of so many blocks, and one script already given.
    async fn new(blocks: usize) -> (Self, Vec<u8>) {
        let folder = tempfile::tempdir().unwrap();
        let node = Arc::new(FakeChain::new(blocks));
        let source = open(&node, folder.path());
        let script = source.fresh_script().await.unwrap();
        (Self { node, source, folder }, script)
    }

    /// This program, started anew.
    fn restart(&mut self) {
        self.source = open(&self.node, self.folder.path());
    }

    async fn standing(&self, transaction: &node_ipc::Transaction) -> Standing {
        self.source
            .transaction(id(transaction))
            .await
            .unwrap()
            .unwrap()
            .standing
    }

    async fn refusal(&self, txid: Hash) -> ChainError {
        self.source.transaction(txid).await.unwrap_err()
    }
}

fn open(node: &Arc<FakeChain>, folder: &std::path::Path) -> NodeChain {
    let scripts = FreshScripts::open(DESCRIPTOR.parse().unwrap(), folder).unwrap();
    NodeChain::new(node.clone(), scripts, BitcoinNetwork::Regtest, 1000)
}

fn place(standing: Standing) -> Place {
    match standing {
        Standing::Confirmed(place) => place,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn payment_in_the_best_chain_is_found_with_its_place_and_its_exact_outputs() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    let block = desk.node.mine(std::slice::from_ref(&payment));
    desk.node.mine(&[]);
    let known = desk.source.transaction(id(&payment)).await.unwrap().unwrap();
    let expected = Place {
        block,
        height: 11,
        depth: 2,
    };
    assert_eq!(place(known.standing), expected);
    assert_eq!(known.outputs[0].sats, 5000);
    assert_eq!(known.outputs[0].script, script);
    assert_eq!(desk.source.depth(block).await.unwrap(), Some(2));
}

#[tokio::test]
async fn payment_stays_known_when_its_output_is_spent() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    desk.node.mine(std::slice::from_ref(&payment));
    desk.node.mine(&[paying(&[(id(&payment), 0)], &[0x51], 4000)]);
    assert_eq!(place(desk.standing(&payment).await).depth, 2);
}

#[tokio::test]
async fn payment_in_a_block_that_was_never_indexed_is_found() {
    let (mut desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    desk.node.flaw(|flaws| flaws.no_index = true);
    desk.node.mine(std::slice::from_ref(&payment));
    desk.node.mine(&[]);
    desk.node.mine(&[]);
    desk.restart();
    assert_eq!(place(desk.standing(&payment).await).depth, 3);
}

#[tokio::test]
async fn block_beside_the_best_chain_with_the_same_payment_does_not_hide_it() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    let block = desk.node.mine(std::slice::from_ref(&payment));
    let beside = desk.node.beside(11, std::slice::from_ref(&payment));
    assert_eq!(place(desk.standing(&payment).await).block, block);
    assert_eq!(desk.source.depth(beside).await.unwrap(), None);
}

#[tokio::test]
async fn payment_in_a_block_that_left_is_unconfirmed_and_its_block_has_no_depth() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    let block = desk.node.mine(std::slice::from_ref(&payment));
    assert_eq!(desk.source.depth(block).await.unwrap(), Some(1));
    desk.node.disconnect_to(10);
    desk.node.mine(&[]);
    desk.node.mine(&[]);
    assert_eq!(desk.standing(&payment).await, Standing::Unconfirmed);
    assert_eq!(desk.source.depth(block).await.unwrap(), None);
    let again = desk.node.mine(std::slice::from_ref(&payment));
    assert_eq!(place(desk.standing(&payment).await).block, again, "mined again");
}

#[tokio::test]
async fn chain_that_became_shorter_is_followed_below_all_that_was_known() {
    let (desk, _) = Desk::new(10).await;
    let (_, old_tip) = desk.node.tip();
    desk.node.disconnect_to(3);
    let tip = desk.node.mine(&[]);
    assert_eq!(
        desk.source.tip().await.unwrap(),
        Tip {
            height: 4,
            block: tip
        }
    );
    assert_eq!(desk.source.depth(old_tip).await.unwrap(), None);
    assert_eq!(desk.source.depth(tip).await.unwrap(), Some(1));
}

#[tokio::test]
async fn double_spend_after_a_reorganisation_is_called_replaced_and_only_then() {
    let (desk, script) = Desk::new(10).await;
    let money = desk.node.coinbase(1);
    let payment = paying(&[money], &script, 5000);
    desk.node.mine(std::slice::from_ref(&payment));
    desk.node.disconnect_to(10);
    desk.node.mine(&[]);
    assert_eq!(desk.standing(&payment).await, Standing::Unconfirmed);
    desk.node.mine(&[paying(&[money], &[0x52], 4999)]);
    assert_eq!(desk.standing(&payment).await, Standing::Replaced);
}

#[tokio::test]
async fn payment_whose_parent_left_with_it_is_not_called_replaced() {
    let (desk, script) = Desk::new(10).await;
    let parent = paying(&[desk.node.coinbase(1)], &[0x51], 6000);
    let payment = paying(&[(id(&parent), 0)], &script, 5000);
    desk.node.mine(&[parent, payment.clone()]);
    desk.node.disconnect_to(10);
    desk.node.mine(&[]);
    assert_eq!(desk.standing(&payment).await, Standing::Unconfirmed);
}

#[tokio::test]
async fn node_whose_unspent_outputs_cannot_be_read_calls_nothing_spent() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    desk.node.mine(std::slice::from_ref(&payment));
    desk.node.flaw(|flaws| flaws.no_coins = true);
    assert_eq!(
        place(desk.standing(&payment).await).depth,
        1,
        "payments need no coins"
    );
    let outpoint = OutPoint {
        txid: id(&payment),
        vout: 0,
    };
    assert_eq!(
        desk.source.output(outpoint).await,
        Err(ChainError::CoinsUnreadable)
    );
    desk.node.disconnect_to(10);
    desk.node.mine(&[]);
    assert_eq!(desk.refusal(id(&payment)).await, ChainError::CoinsUnreadable);
}

#[tokio::test]
async fn output_that_stands_waits_or_is_spent_is_told_apart() {
    let (desk, _) = Desk::new(10).await;
    let money = desk.node.coinbase(4);
    let outpoint = OutPoint {
        txid: money.0,
        vout: 0,
    };
    let FundingFacts::Unspent(output, at) = desk.source.output(outpoint).await.unwrap() else {
        panic!("it stands");
    };
    assert_eq!(
        (output.sats, output.script.as_slice()),
        (5_000_000_000, [0x51].as_slice())
    );
    assert_eq!((at.height, at.depth), (4, 7));
    let waiting = paying(&[money], &[0x53], 7000);
    let of_waiting = OutPoint {
        txid: id(&waiting),
        vout: 0,
    };
    assert_eq!(
        desk.source.output(of_waiting).await.unwrap(),
        FundingFacts::Gone,
        "never seen"
    );
    desk.node.wait_in_mempool(&waiting);
    assert_eq!(
        desk.source.output(of_waiting).await.unwrap(),
        FundingFacts::Unconfirmed
    );
    desk.node.mine(&[waiting]);
    assert_eq!(desk.source.output(outpoint).await.unwrap(), FundingFacts::Gone);
}

#[tokio::test]
async fn invented_names_cost_one_look_at_each_block_and_no_more() {
    let (desk, _) = Desk::new(3).await;
    for _ in 0..20 {
        desk.node.mine(&[]);
    }
    for name in 0..50 {
        assert_eq!(desk.source.transaction([name; 32]).await.unwrap(), None);
    }
    let looks = desk.node.flaws.lock().unwrap().bodies_asked;
    assert!(looks <= 24, "{looks} looks into 23 blocks");
}

#[tokio::test]
async fn before_any_script_was_given_no_block_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(FakeChain::new(30));
    let source = open(&node, folder.path());
    assert_eq!(source.transaction([7; 32]).await.unwrap(), None);
    assert_eq!(node.flaws.lock().unwrap().bodies_asked, 0);
}

#[tokio::test]
async fn what_may_be_in_a_block_that_is_not_kept_is_not_called_unknown() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    desk.node.flaw(|flaws| flaws.no_index = true);
    desk.node.mine(std::slice::from_ref(&payment));
    desk.node.mine(&[]);
    desk.node.flaw(|flaws| flaws.pruned_below = 12);
    assert_eq!(
        desk.refusal(id(&payment)).await,
        ChainError::Pruned { height: 11 }
    );
}

#[tokio::test]
async fn values_and_transactions_that_cannot_be_are_nobodys_money() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    desk.node.mine(std::slice::from_ref(&payment));
    for value in [-1, 6000, i64::MAX] {
        desk.node.flaw(|flaws| flaws.lying_value = Some(value));
        let refused = desk.refusal(id(&payment)).await;
        assert!(
            matches!(refused, ChainError::NodeNonsense { .. }),
            "{value}: {refused}"
        );
    }
    desk.node.flaw(|flaws| flaws.lying_value = Some(-1));
    let outpoint = OutPoint {
        txid: desk.node.coinbase(3).0,
        vout: 0,
    };
    let refused = desk.source.output(outpoint).await.unwrap_err();
    assert!(matches!(refused, ChainError::NodeNonsense { .. }), "{refused}");
}

#[tokio::test]
async fn silent_node_is_an_error_and_never_an_answer() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    let block = desk.node.mine(std::slice::from_ref(&payment));
    desk.node.flaw(|flaws| flaws.silent = true);
    assert!(matches!(
        desk.refusal(id(&payment)).await,
        ChainError::NodeSilent(_)
    ));
    assert!(matches!(
        desk.source.depth(block).await,
        Err(ChainError::NodeSilent(_))
    ));
    assert!(matches!(
        desk.source.fresh_script().await,
        Err(ChainError::NodeSilent(_))
    ));
    desk.node.flaw(|flaws| flaws.silent = false);
    assert_eq!(place(desk.standing(&payment).await).depth, 1);
}

#[tokio::test]
async fn mesh_starts_without_the_node_and_checks_its_network_before_believing_it() {
    let folder = tempfile::tempdir().unwrap();
    let node = Arc::new(FakeChain::new(5));
    let scripts = FreshScripts::open(DESCRIPTOR.parse().unwrap(), folder.path()).unwrap();
    let source = NodeChain::new(node.clone(), scripts, BitcoinNetwork::Signet, 1000);
    node.flaw(|flaws| flaws.silent = true);
    assert_eq!(source.network().await.unwrap(), BitcoinNetwork::Signet);
    node.flaw(|flaws| flaws.silent = false);
    let wrong = ChainError::WrongNetwork {
        found: BitcoinNetwork::Regtest,
        configured: BitcoinNetwork::Signet,
    };
    assert_eq!(source.fresh_script().await, Err(wrong.clone()));
    assert_eq!(source.transaction([1; 32]).await, Err(wrong.clone()));
    assert_eq!(source.depth([1; 32]).await, Err(wrong));
    assert_eq!(source.network().await.unwrap(), BitcoinNetwork::Regtest);
}

#[tokio::test]
async fn tip_that_never_rests_is_an_error_and_not_a_mixture_of_two_chains() {
    let (desk, script) = Desk::new(10).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    desk.node.mine(std::slice::from_ref(&payment));
    desk.node.flaw(|flaws| flaws.restless = true);
    assert_eq!(desk.refusal(id(&payment)).await, ChainError::Restless);
    desk.node.flaw(|flaws| flaws.restless = false);
    assert!(place(desk.standing(&payment).await).depth > 1);
}

#[tokio::test]
async fn questions_about_the_same_tip_cost_few_requests() {
    let (desk, script) = Desk::new(200).await;
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    let block = desk.node.mine(std::slice::from_ref(&payment));
    for _ in 0..99 {
        desk.node.mine(&[]);
    }
    assert_eq!(desk.source.depth(block).await.unwrap(), Some(100));
    let before = desk.node.flaws.lock().unwrap().asked;
    for _ in 0..10 {
        assert_eq!(desk.source.depth(block).await.unwrap(), Some(100));
    }
    let asked = desk.node.flaws.lock().unwrap().asked - before;
    assert_eq!(asked, 10, "the tip, once each");
}

#[tokio::test]
async fn scripts_go_on_where_they_were_after_a_restart() {
    let (mut desk, first) = Desk::new(5).await;
    let second = desk.source.fresh_script().await.unwrap();
    desk.restart();
    let third = desk.source.fresh_script().await.unwrap();
    assert!(first != second && second != third && first != third);
    assert_eq!((first.len(), first[0]), (22, 0), "P2WPKH");
}

#[tokio::test]
async fn transaction_is_handed_over_only_where_the_node_takes_it() {
    let (desk, _) = Desk::new(10).await;
    let raw = |spent: (Hash, u32), sats: u64| bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![bitcoin::TxIn {
            previous_output: bitcoin::OutPoint {
                txid: bitcoin::Txid::from_byte_array(spent.0),
                vout: spent.1,
            },
            sequence: bitcoin::Sequence::MAX,
            ..bitcoin::TxIn::default()
        }],
        output: vec![bitcoin::TxOut {
            value: bitcoin::Amount::from_sat(sats),
            script_pubkey: bitcoin::ScriptBuf::from_bytes(vec![0x51]),
        }],
    };
    let serialize = bitcoin::consensus::encode::serialize::<bitcoin::Transaction>;
    let good = raw(desk.node.coinbase(1), 5);
    desk.source.broadcast(&serialize(&good)).await.unwrap();
    let submitted = desk.node.submitted();
    assert_eq!(submitted.len(), 1);
    assert_eq!(id(&submitted[0]), good.compute_txid().to_byte_array());
    desk.node.wait_in_mempool(&submitted[0]);
    desk.source.broadcast(&serialize(&good)).await.unwrap();
    desk.node.mine(&submitted);
    desk.source.broadcast(&serialize(&good)).await.unwrap();
    let double = raw(desk.node.coinbase(1), 4);
    for refused in [
        serialize(&double),
        serialize(&raw(([9; 32], 0), 1)),
        vec![1, 2, 3],
    ] {
        let refused = desk.source.broadcast(&refused).await.unwrap_err();
        assert!(matches!(refused, ChainError::NotTaken(_)), "{refused}");
    }
    assert_eq!(
        desk.node.submitted().len(),
        1,
        "an error answer costs the connection"
    );
}

#[tokio::test]
async fn payment_in_a_block_below_the_first_quotes_tip_is_found_after_a_reorganisation() {
    let (mut desk, script) = Desk::new(15).await;
    desk.node.disconnect_to(10);
    desk.node.flaw(|flaws| flaws.no_index = true);
    let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
    desk.node.mine(std::slice::from_ref(&payment));
    desk.restart();
    assert_eq!(place(desk.standing(&payment).await).height, 11);
}

#[tokio::test]
async fn reorganisation_in_the_middle_of_an_answer_is_not_answered_from_both_chains() {
    for asked in ["GetTxMetadata", "GetTransaction"] {
        let (desk, script) = Desk::new(10).await;
        let payment = paying(&[desk.node.coinbase(1)], &script, 5000);
        desk.node.mine(std::slice::from_ref(&payment));
        let reorganise = |node: &FakeChain| {
            node.disconnect_to(10);
            node.mine(&[]);
            node.mine(&[]);
        };
        desk.node
            .flaw(|flaws| flaws.meanwhile = Some((asked, reorganise)));
        assert_eq!(desk.standing(&payment).await, Standing::Unconfirmed, "{asked}");
    }
}
