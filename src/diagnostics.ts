import { channel } from 'node:diagnostics_channel';
import { debuglog } from 'node:util';
import type { ProgressEvent } from './core/progress.js';

/**
 * Diagnostics channel on which every progress event of every journey in this process is published.
 * Subscribe with `diagnostics_channel.subscribe('dps-device:progress', listener)`. Events carry no secrets.
 */
export const PROGRESS_CHANNEL = 'dps-device:progress';

const progress = channel(PROGRESS_CHANNEL);
const debug = debuglog('dps-device');

/** Publishes one event; a subscriber's exception is Node's to report, never the journey's. */
export function publishProgress(event: ProgressEvent): void {
  if (progress.hasSubscribers) progress.publish(event);
}

// `NODE_DEBUG=dps-device` is a subscriber like any other.
if (debug.enabled) progress.subscribe((event) => debug('%j', event));
