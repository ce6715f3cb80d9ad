//! What a person or a wallet pays: an address with an amount (BIP-21).

use bitcoin::{Address, KnownHrp, Network, Script, WitnessProgram};
use mesh_core::verifier::BitcoinNetwork;

/// `bitcoin:<address>?amount=<BTC>` for a script and an amount in sats; `None` when the script has no address, as a
/// bare covenant has none.
pub fn payment_uri(script: &[u8], sats: u64, network: BitcoinNetwork) -> Option<String> {
    let script = Script::from_bytes(script);
    let address = address_of(script, network)?;
    let (whole, part) = (sats / 100_000_000, sats % 100_000_000);
    Some(format!("bitcoin:{address}?amount={whole}.{part:08}"))
}

fn address_of(script: &Script, network: BitcoinNetwork) -> Option<Address> {
    let network = match network {
        BitcoinNetwork::Mainnet => Network::Bitcoin,
        BitcoinNetwork::Testnet => Network::Testnet,
        BitcoinNetwork::Signet => Network::Signet,
        BitcoinNetwork::Regtest => Network::Regtest,
    };
    if let Some(version) = script.witness_version() {
        let program = WitnessProgram::new(version, script.as_bytes().get(2..)?).ok()?;
        return Some(Address::from_witness_program(program, KnownHrp::from(network)));
    }
    Address::from_script(script, network).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn script_is_shown_as_the_address_that_wallets_pay() {
        // The first example of BIP-173, and its script.
        let script = hex::decode("0014751e76e8199196d454941c45d1b3a323f1433bd6").unwrap();
        assert_eq!(
            payment_uri(&script, 123_456, BitcoinNetwork::Mainnet).unwrap(),
            "bitcoin:bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4?amount=0.00123456"
        );
        assert!(
            payment_uri(&script, 1, BitcoinNetwork::Regtest)
                .unwrap()
                .starts_with("bitcoin:bcrt1q")
        );
    }

    #[test]
    fn script_without_an_address_has_no_uri() {
        assert_eq!(payment_uri(&[0xb3], 1, BitcoinNetwork::Regtest), None);
    }
}
