// About the model: what it can do, its loss curve, its report.

import { lossesAddress, reportAddress } from "../api/client";
import { run } from "../project/store";
import { Dialog } from "./dialog";
import { runIsOpen } from "./open";

export function RunDialog() {
  const about = run.value;
  if (!runIsOpen.value || !about) return null;
  const isDark = document.documentElement.dataset.theme === "dark";
  return (
    <Dialog
      title={about.name}
      onClose={() => {
        runIsOpen.value = false;
      }}
    >
      <dl class="facts">
        <dt>Training steps</dt>
        <dd>{about.step.toLocaleString()}</dd>
        {about.n_parameters != null && (
          <>
            <dt>Parameters</dt>
            <dd>{about.n_parameters.toLocaleString()}</dd>
          </>
        )}
        {about.loss_bits !== null && (
          <>
            <dt>Loss</dt>
            <dd>
              {about.loss_bits.toFixed(3)} bits per {about.unit} (lower is better)
            </dd>
          </>
        )}
      </dl>
      {about.has_losses && (
        <img
          class="losses"
          src={lossesAddress(about.id, isDark)}
          alt="Loss of the model during training"
        />
      )}
      {about.has_report && (
        <p>
          <a href={reportAddress(about.id)} target="_blank" rel="noreferrer">
            Open the report of its evaluation
          </a>
        </p>
      )}
    </Dialog>
  );
}
