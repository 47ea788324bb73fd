import type { DocumentEnding } from './receipt.ts';

/** Cancelled before its turn came. */
export const CANCELLED: DocumentEnding = {
  outcome: 'cancelled',
  code: 'cancelled',
  message: 'Cancelled before this document.',
  changed: false,
};
export const CANCELLED_WAITING: DocumentEnding = { ...CANCELLED, message: 'Cancelled while it was waiting.' };

/** Something that should not happen did. */
export function faultOf(error: unknown): DocumentEnding {
  return {
    outcome: 'interrupted',
    code: 'fault',
    message: `The agent made a mistake of its own: ${error instanceof Error ? error.message : String(error)}`,
    remedy: 'Look at the host’s state and the agent’s log, and report this with the log.',
    changed: true,
  };
}
