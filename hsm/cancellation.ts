export { throwIfCancelled, unlessCancelled } from '../src/cancellation.js';
