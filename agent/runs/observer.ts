import type { Event } from '../../protocol/event.ts';
import type { Receipt } from '../../protocol/receipt.ts';
import type { AdmittedCommand } from '../admission/admitted.ts';
import type { Plan } from '../plan/plan.ts';

/** Somebody who wants to know what runs do: metrics, the audit, notices. Called after the store has it. What throws because a disk is full is called again. */
export interface RunObserver {
  begun?(run: string, admitted: AdmittedCommand): void;
  /** An earlier agent had begun it. */
  resumed?(run: string, admitted: AdmittedCommand): void;
  cancelled?(run: string, by: { trust: string; keyId: string; actor: string; address: string }): void;
  planned?(run: string, document: number, plan: Plan, admitted: AdmittedCommand): void;
  eventStored?(run: string, event: Event, admitted: AdmittedCommand): void;
  ended?(run: string, receipt: Receipt, admitted: AdmittedCommand): void;
}
