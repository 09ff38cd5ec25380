import type { ProgressEvent } from '../../src/core/progress.js';

/** An event in a few words, for lists of them. */
export function eventWords(event: ProgressEvent): string {
  switch (event.type) {
    case 'waiting':
      return `waiting ${event.reason} ${event.forMs}`;
    case 'connecting':
    case 'connected':
      return `${event.type} ${event.to}`;
    case 'provisioned':
      return `provisioned ${event.source}`;
    case 'reprovisioning':
      return `reprovisioning ${event.reason} ${event.detail}`;
    case 'next-credential':
      return `next-credential ${event.slot}`;
    case 'offline':
    case 'ended':
      return `${event.type} ${event.code}`;
    default:
      return event.type;
  }
}
