import type { AttestationKind } from './attestation.js';

/** Every step on the way, as it happens: for a CLI to draw and a fleet to count. Never carries a secret. */
export type ProgressEvent =
  | {
      readonly type: 'started';
      readonly idScope: string;
      readonly registrationId: string;
      readonly attestation: AttestationKind;
      readonly transport: string;
    }
  | {
      readonly type: 'connecting';
      readonly to: 'dps' | 'hub';
      readonly peer: string;
      readonly attempt: number;
      /** Where there are several to choose from. */
      readonly transport?: string;
    }
  /** The network does not let one transport through: another one is tried, within the same attempt. */
  | {
      readonly type: 'next-transport';
      readonly to: 'dps' | 'hub';
      readonly transport: string;
      readonly after: string;
      readonly code: string;
      readonly message: string;
    }
  | {
      readonly type: 'connected';
      readonly to: 'dps' | 'hub';
      readonly peer: string;
      /** Where there are several to choose from. */
      readonly transport?: string;
    }
  /** Asks what the service knows of the device, before it registers. */
  | { readonly type: 'looking-up' }
  | { readonly type: 'registering'; readonly attempt: number }
  | { readonly type: 'challenged' }
  | { readonly type: 'assigning'; readonly operationId: string }
  | {
      readonly type: 'waiting';
      readonly forMs: number;
      readonly reason: 'poll' | 'throttled' | 'unavailable' | 'network' | 'refused' | 'budget' | 'spread';
      /** The code of the error that made it wait, and its message. */
      readonly detail?: string;
      readonly message?: string;
    }
  | { readonly type: 'polling'; readonly operationId: string; readonly attempt: number }
  | { readonly type: 'next-credential'; readonly slot: number }
  | { readonly type: 'assigned'; readonly assignedHub: string; readonly deviceId: string; readonly substatus?: string }
  | { readonly type: 'twin'; readonly desiredVersion: number; readonly reportedVersion: number }
  | {
      readonly type: 'provisioned';
      readonly assignedHub: string;
      readonly deviceId: string;
      /** By a registration just now, or known from the record. */
      readonly source: 'registered' | 'stored';
    }
  /** The stored record: what was found of it, and what became of saving it. */
  | {
      readonly type: 'record';
      readonly outcome: 'found' | 'none' | 'damaged' | 'foreign' | 'saved' | 'unsaved';
      readonly detail?: string;
    }
  /** The hub has accepted the staged key in this slot, and it has been committed: from now on it is the one in use. */
  | { readonly type: 'key-rolled'; readonly slot: number }
  /** The hub has accepted the credential in this slot, and the HSM could not commit it; the message says what to do. */
  | { readonly type: 'commit-failed'; readonly slot: number; readonly code: string; readonly message: string }
  /** The hub is left for DPS: it refused the device, could not be reached, cannot know a new key, or somebody asked for it. */
  | {
      readonly type: 'reprovisioning';
      readonly reason: 'refused' | 'unreachable' | 'asked' | 'new-key';
      readonly detail: string;
    }
  /** The session at the hub is over; the way back begins. */
  | { readonly type: 'offline'; readonly code: string; readonly message: string }
  | { readonly type: 'ended'; readonly code: string; readonly message: string };
