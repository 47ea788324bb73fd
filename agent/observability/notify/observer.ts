import type { Receipt } from '../../../protocol/receipt.ts';
import type { Refusal } from '../../../protocol/refusal.ts';
import type { AdmittedCommand } from '../../admission/admitted.ts';
import type { RefusedCommand } from '../../admission/refused-command.ts';
import type { NoticeEvent } from '../../config/notify.ts';
import { AUTH_REASONS } from '../../refusals.ts';
import type { RunObserver } from '../../runs/observer.ts';
import { Notice, severityOf } from './notice.ts';
import type { Notifier } from './notifier.ts';

/** Maximum length of a failure's message in a notice. */
const MAX_TEXT = 500;

/** Sends a notice for each ended run, refusal and failed schedule. */
export class NoticeObserver implements RunObserver {
  readonly #agent: string;
  readonly #notifier: Notifier;

  constructor(agent: string, notifier: Notifier) {
    this.#agent = agent;
    this.#notifier = notifier;
  }

  ended(run: string, receipt: Receipt, { command }: AdmittedCommand): void {
    if (command.type === 'plan' || command.dry_run || receipt.outcome === 'planned') return;
    const [first] = receipt.documents;
    const { origin } = command;
    const more = receipt.documents.length > 1 ? ` and ${receipt.documents.length - 1} more` : '';
    const images = receipt.documents.flatMap(one => one.images).filter(({ before, after }) => before !== after);
    this.#notify(receipt.outcome as NoticeEvent, {
      title: `${first?.action ?? 'run'} on ${first?.stack || first?.name || 'this host'}${more} ${receipt.outcome}`,
      text:
        receipt.message === undefined
          ? images.map(({ service, after }) => `${service}: ${after?.slice(0, 19) ?? 'none'}`).join('\n')
          : truncate(`${receipt.message} ${receipt.remedy ?? ''}`.trim()),
      code: receipt.reason,
      stack: first?.stack,
      run,
      ...(origin.event === 'schedule' && origin.run_id === '' ? { schedule: origin.actor } : {}),
      ...(origin.url.startsWith('https://') ? { url: origin.url } : {}),
    });
  }

  refused({ code, message, remedy }: Refusal, { address, trust, repository, intents }: RefusedCommand): void {
    const event = eventOf(code);
    const from = [address, trust, repository].filter(Boolean).join(', ');
    this.#notify(event, {
      title: `${event}: ${code}`,
      text: truncate(`${message} ${remedy} (from ${from})`),
      code,
      stack: intents?.[0]?.stack,
    });
  }

  scheduleFailed(schedule: string, why: string): void {
    this.#notify('schedule-failed', {
      title: `schedule ${schedule} could not start its run`,
      text: truncate(why),
      schedule,
    });
  }

  #notify(event: NoticeEvent, facts: Partial<Notice> & { title: string; text: string }): void {
    const notice = { event, severity: severityOf(event), agent: this.#agent, at: new Date().toISOString(), ...facts };
    try {
      this.#notifier.notify(Notice.parse(notice));
    } catch (error) {
      // A failed notice must not end a run.
      console.error('notices:', error);
    }
  }
}

function eventOf(code: string): NoticeEvent {
  if (code === 'address-not-allowed') return 'address-refused';
  switch (AUTH_REASONS[code]) {
    case 'label_mismatch':
      return 'label-mismatch';
    case 'invalid_key':
    case 'expired':
    case 'replayed':
      return 'auth-failure';
    default:
      return 'refused';
  }
}

function truncate(text: string): string {
  return text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text;
}
