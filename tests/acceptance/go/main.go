// Submit, wait, cancel with the client that a standard generator made of /openapi.json (package muster).
// Prints what it saw as JSON; ends with 1 when an answer is not what the contract says.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"os"
	"time"

	muster "muster/client"
)

func main() {
	deadline, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	ctx := context.WithValue(deadline, muster.ContextAccessToken, os.Getenv("MUSTER_TOKEN"))
	settings := muster.NewConfiguration()
	settings.Servers = muster.ServerConfigurations{{URL: os.Getenv("MUSTER_URL")}}
	api := muster.NewAPIClient(settings).RequestsAPI
	template := os.Args[1]

	done := wait(ctx, api, submit(ctx, api, template, map[string]any{"text": "from Go"}))
	long := submit(ctx, api, template, map[string]any{"text": "long", "sleep_s": 60, "steps": 600})
	if _, _, err := api.CancelRequest(ctx, long.Id).Execute(); err != nil {
		log.Fatalf("cancel: %v", err)
	}
	canceled := wait(ctx, api, long)

	_, answer, err := api.SubmitRequest(ctx).Submission(*muster.NewSubmission("no-such-template")).Execute()
	var refused *muster.GenericOpenAPIError
	if !errors.As(err, &refused) {
		log.Fatalf("an unknown template was no error: %v", err)
	}
	problem, typed := refused.Model().(muster.Problem)
	if !typed {
		log.Fatalf("the error is no Problem but %T: %s", refused.Model(), refused.Body())
	}
	json.NewEncoder(os.Stdout).Encode(map[string]any{
		"done": done.Status, "result": done.Result, "queue_s": done.Metrics.QueueS,
		"canceled": canceled.Status, "status": answer.StatusCode, "code": problem.Code,
	})
}

func submit(ctx context.Context, api *muster.RequestsAPIService, template string, input map[string]any) *muster.Request {
	order := muster.NewSubmission(template)
	order.SetInput(input)
	order.SetLabels(map[string]string{"from": "go"})
	request, answer, err := api.SubmitRequest(ctx).Submission(*order).Execute()
	if err != nil {
		log.Fatalf("submit: %v", err)
	}
	if answer.Header.Get("Location") != request.Urls.Self {
		log.Fatalf("Location is %q, the request says %q", answer.Header.Get("Location"), request.Urls.Self)
	}
	return request
}

func wait(ctx context.Context, api *muster.RequestsAPIService, request *muster.Request) *muster.Request {
	for !request.IsTerminal {
		seen, _, err := api.GetRequest(ctx, request.Id).Wait(20).Execute()
		if err != nil {
			log.Fatalf("wait: %v", err)
		}
		request = seen
	}
	return request
}
