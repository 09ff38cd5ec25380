import { type Clock, isPlausibleWallMs } from '../core/clock.js';
import { ClockError } from '../errors.js';
import { type Finding, failed, ok, warning } from './finding.js';

const SET_IT =
  'Set the clock: let it follow NTP (with systemd: timedatectl set-ntp true), or mend the battery of the real-time clock.';

/** Less is what networks and slow clocks make of it. */
const NOTEWORTHY_MS = 5 * 60_000;
/** A token lives for an hour: by a clock so slow it has expired when it arrives. */
const FATAL_DELAY_MS = 55 * 60_000;

/** Whether the clock can be right at all: tokens are dated by it, and certificates judged. */
export function checkClock(clock: Clock): Finding {
  const wallMs = clock.wallMs();
  if (isPlausibleWallMs(wallMs)) return ok('clock', `The clock says ${formatTime(wallMs)}.`);
  return clockFailed('clock', `The clock says ${formatTime(wallMs)}, which cannot be right. ${SET_IT}`);
}

/** Whether the clock agrees with that of a server, which sent its own as `serverMs`. */
export function compareClocks(clock: Clock, serverMs: number, peer: string): Finding {
  const aheadMs = clock.wallMs() - serverMs;
  const gap = `${formatSpan(Math.abs(aheadMs))} ${aheadMs < 0 ? 'behind' : 'ahead of'} that of ${peer}`;
  if (Math.abs(aheadMs) <= NOTEWORTHY_MS) return ok('server-clock', `The clock agrees with that of ${peer}.`);
  if (aheadMs < -FATAL_DELAY_MS) {
    return clockFailed('server-clock', `The clock is ${gap}, so that tokens have expired when they arrive. ${SET_IT}`);
  }
  return warning('server-clock', `The clock is ${gap}.`, SET_IT);
}

function clockFailed(check: 'clock' | 'server-clock', message: string): Finding {
  return failed(check, new ClockError({ code: 'ERR_DPS_CLOCK_IMPLAUSIBLE', message }));
}

function formatTime(wallMs: number): string {
  return Math.abs(wallMs) <= 8.64e15 ? new Date(wallMs).toISOString() : `${wallMs} ms after 1970`;
}

function formatSpan(ms: number): string {
  const minutes = Math.round(ms / 60_000);
  if (minutes < 120) return `${minutes} minutes`;
  const hours = Math.round(minutes / 60);
  return hours < 48 ? `${hours} hours` : `${Math.round(hours / 24)} days`;
}
