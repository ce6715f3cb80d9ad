//! Which events a node can tell of: all kinds, by number.

use crate::codec::{DecodeError, Reader, Wire};

macro_rules! kinds {
    ($($number:literal $kind:ident),* $(,)?) => {
        /// A kind of event. Modules subscribe by kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u32)]
        #[allow(missing_docs, reason = "the node's names say it; docs/ has what we do about each")]
        pub enum EventKind { $($kind = $number),* }

        impl EventKind {
            /// Every kind, in the order of their numbers.
            pub const ALL: [EventKind; [$($number),*].len()] = [$(EventKind::$kind),*];

            /// The kind's name, as the node writes it.
            pub fn name(self) -> &'static str {
                match self { $(EventKind::$kind => stringify!($kind)),* }
            }

            /// The kind with this name.
            pub fn from_name(name: &str) -> Option<EventKind> {
                match name { $(stringify!($kind) => Some(EventKind::$kind),)* _ => None }
            }
        }
    };
}

kinds! {
    0 NewBlock, 1 NewTransaction, 2 BlockDisconnected, 3 ChainReorg, 4 PaymentRequestCreated,
    5 PaymentSettled, 6 PaymentFailed, 7 PaymentVerified, 8 PaymentRouteFound, 9 PaymentRouteFailed,
    10 ChannelOpened, 11 ChannelClosed, 12 BlockMined, 13 BlockTemplateUpdated, 14 MiningDifficultyChanged,
    15 MiningJobCreated, 16 MeshPacketReceived, 17 StratumV2MessageReceived, 18 ShareSubmitted,
    19 MergeMiningReward, 20 MiningPoolConnected, 21 MiningPoolDisconnected, 22 GovernanceProposalCreated,
    23 GovernanceProposalVoted, 24 GovernanceProposalMerged, 25 WebhookSent, 26 WebhookFailed,
    27 GovernanceForkDetected, 28 PeerConnected, 29 PeerDisconnected, 30 PeerBanned, 31 PeerUnbanned,
    32 MessageReceived, 33 MessageSent, 34 BroadcastStarted, 35 BroadcastCompleted, 36 RouteDiscovered,
    37 RouteFailed, 38 ConnectionAttempt, 39 AddressDiscovered, 40 AddressExpired, 41 NetworkPartition,
    42 NetworkReconnected, 43 DoSAttackDetected, 44 RateLimitExceeded, 45 BlockValidationStarted,
    46 BlockValidationCompleted, 47 ScriptVerificationStarted, 48 ScriptVerificationCompleted,
    49 UTXOValidationStarted, 50 UTXOValidationCompleted, 51 DifficultyAdjusted, 52 SoftForkActivated,
    53 SoftForkLockedIn, 54 ConsensusRuleViolation, 55 HeadersSyncStarted, 56 HeadersSyncProgress,
    57 HeadersSyncCompleted, 58 BlockSyncStarted, 59 BlockSyncProgress, 60 BlockSyncCompleted,
    61 SyncStateChanged, 62 MempoolTransactionAdded, 63 MempoolTransactionRemoved,
    64 MempoolThresholdExceeded, 65 FeeRateChanged, 66 MempoolCleared, 67 StorageRead, 68 StorageWrite,
    69 StorageQuery, 70 DatabaseBackupStarted, 71 DatabaseBackupCompleted, 72 ModuleLoaded,
    73 ModuleUnloaded, 74 ModuleReloaded, 75 ModuleStarted, 76 ModuleStopped, 77 ModuleCrashed,
    78 ModuleHealthChanged, 79 ModuleStateChanged, 80 ConfigLoaded, 81 NodeShutdown,
    82 NodeShutdownCompleted, 83 NodeStartupCompleted, 84 MaintenanceStarted, 85 MaintenanceCompleted,
    86 DataMaintenance, 87 HealthCheck, 88 DiskSpaceLow, 89 ResourceLimitWarning, 90 DandelionStemStarted,
    91 DandelionStemAdvanced, 92 DandelionFluffed, 93 DandelionStemPathExpired, 94 CompactBlockReceived,
    95 BlockReconstructionStarted, 96 BlockReconstructionCompleted, 97 FibreBlockEncoded, 98 FibreBlockSent,
    99 CompanionUdpPeerRegistered, 100 CompanionUdpPeerUnregistered, 101 PackageReceived,
    102 PackageRejected, 103 UtxoCommitmentReceived, 104 UtxoCommitmentVerified, 105 BanListShared,
    106 BanListReceived, 107 SelectiveSyncPolicyApplied, 108 ActionExecuted, 109 ModulePurchaseCompleted,
    110 StratumClientConnected, 111 StratumClientDisconnected, 112 IBDBlockFiltered, 113 ModuleDiscovered,
    114 ModuleInstalled, 115 ModuleUpdated, 116 ModuleRemoved, 117 PeerPayment,
}

impl EventKind {
    /// The kind's number on the wire.
    pub fn number(self) -> u32 {
        self as u32
    }

    /// The kind with this number; `None` for one of a newer node.
    pub fn from_number(number: u32) -> Option<EventKind> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// Whether missing one of these would leave a module with a false view for good: the node's and the modules' life, and
    /// blocks taken back. They are kept when a slow module's queue is full and others are dropped.
    pub fn must_arrive(self) -> bool {
        use EventKind::*;
        matches!(
            self,
            NodeShutdown
                | NodeShutdownCompleted
                | NodeStartupCompleted
                | ConfigLoaded
                | MaintenanceStarted
                | MaintenanceCompleted
                | DataMaintenance
                | DiskSpaceLow
                | ModuleLoaded
                | ModuleUnloaded
                | ModuleReloaded
                | ModuleStarted
                | ModuleStopped
                | ModuleCrashed
                | BlockDisconnected
                | ChainReorg
        )
    }
}

impl Wire for EventKind {
    const LEAST: usize = 4;

    fn put(&self, out: &mut Vec<u8>) {
        self.number().put(out);
    }

    fn take(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = u32::take(input)?;
        Self::from_number(number).ok_or(DecodeError::UnknownNumber {
            what: "event kind",
            number,
        })
    }
}
