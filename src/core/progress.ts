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
  | { readonly type: 'connecting'; readonly to: 'dps' | 'hub'; readonly peer: string; readonly attempt: number }
  | { readonly type: 'connected'; readonly to: 'dps' | 'hub'; readonly peer: string }
  | { readonly type: 'registering'; readonly attempt: number }
  | { readonly type: 'challenged' }
  | { readonly type: 'assigning'; readonly operationId: string }
  | {
      readonly type: 'waiting';
      readonly forMs: number;
      readonly reason: 'poll' | 'throttled' | 'unavailable' | 'network' | 'refused' | 'budget';
      readonly detail?: string;
    }
  | { readonly type: 'polling'; readonly operationId: string; readonly attempt: number }
  | { readonly type: 'next-credential'; readonly slot: number }
  | { readonly type: 'assigned'; readonly assignedHub: string; readonly deviceId: string; readonly substatus?: string }
  | { readonly type: 'twin'; readonly desiredVersion: number; readonly reportedVersion: number }
  | { readonly type: 'provisioned'; readonly assignedHub: string; readonly deviceId: string }
  | { readonly type: 'ended'; readonly code: string; readonly message: string };
