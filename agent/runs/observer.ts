import type { Event } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { Plan } from '../plan/plan.ts';

/**
 * Reacts to what runs do: metrics, audit log, notices. Called after the store has written it. A call that throws because the
 * disk is full is repeated.
 */
export interface RunObserver {
  started?(run: string, admitted: AdmittedCommand): void;
  /** Called instead of `started` for a run that an earlier agent started. */
  resumed?(run: string, admitted: AdmittedCommand): void;
  cancelled?(run: string, by: { trust: string; keyId: string; actor: string; address: string }): void;
  planned?(run: string, document: number, plan: Plan, admitted: AdmittedCommand): void;
  eventStored?(run: string, event: Event, admitted: AdmittedCommand): void;
  ended?(run: string, receipt: Receipt, admitted: AdmittedCommand): void;
}
