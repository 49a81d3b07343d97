// OpenAI's Go client: one case per line of standard input, its result per line of standard output (python/serve.py describes both).
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"
	"github.com/openai/openai-go/v3/packages/param"
	"github.com/openai/openai-go/v3/shared"
)

type plan struct{ Case, Base, Root, Key, Model string }
type seen map[string]any

const question = "How is the weather?"

var weather = shared.FunctionParameters{
	"type": "object",
	"properties": map[string]any{
		"city": map[string]any{"type": "string"},
		"unit": map[string]any{"type": "string", "enum": []string{"celsius", "kelvin"}},
	},
	"required":             []string{"city", "unit"},
	"additionalProperties": false,
}

var forecast = map[string]any{
	"type":                 "object",
	"properties":           map[string]any{"city": map[string]any{"type": "string"}, "days": map[string]any{"type": "integer"}},
	"required":             []string{"city", "days"},
	"additionalProperties": false,
}

func client(p plan) openai.Client {
	return openai.NewClient(option.WithBaseURL(p.Base), option.WithAPIKey(p.Key))
}

func asked(p plan) openai.ChatCompletionNewParams {
	messages := []openai.ChatCompletionMessageParamUnion{openai.UserMessage(question)}
	return openai.ChatCompletionNewParams{Model: p.Model, Messages: messages}
}

func used(usage openai.CompletionUsage) []int64 { return []int64{usage.PromptTokens, usage.CompletionTokens} }

func plain(ctx context.Context, p plan) (seen, error) {
	c := client(p)
	answer, err := c.Chat.Completions.New(ctx, asked(p))
	if err != nil {
		return nil, err
	}
	return seen{"text": answer.Choices[0].Message.Content, "usage": used(answer.Usage)}, nil
}

func stream(ctx context.Context, p plan) (seen, error) {
	c, body := client(p), asked(p)
	body.StreamOptions = openai.ChatCompletionStreamOptionsParam{IncludeUsage: param.NewOpt(true)}
	chunks := c.Chat.Completions.NewStreaming(ctx, body)
	whole, pieces := openai.ChatCompletionAccumulator{}, 0
	for ; chunks.Next(); pieces++ {
		whole.AddChunk(chunks.Current())
	}
	if err := chunks.Err(); err != nil {
		return nil, err
	}
	return seen{"text": whole.Choices[0].Message.Content, "usage": used(whole.Usage), "pieces": pieces}, nil
}

func tools(ctx context.Context, p plan) (seen, error) {
	c, body := client(p), asked(p)
	function := shared.FunctionDefinitionParam{Name: "weather", Parameters: weather}
	body.Tools = []openai.ChatCompletionToolUnionParam{openai.ChatCompletionFunctionTool(function)}
	first, err := c.Chat.Completions.New(ctx, body)
	if err != nil {
		return nil, err
	}
	message := first.Choices[0].Message
	call := message.ToolCalls[0]
	var arguments map[string]any
	if err := json.Unmarshal([]byte(call.Function.Arguments), &arguments); err != nil {
		return nil, err
	}
	body.Messages = append(body.Messages, message.ToParam(), openai.ToolMessage("sunny", call.ID))
	second, err := c.Chat.Completions.New(ctx, body)
	if err != nil {
		return nil, err
	}
	tool := seen{"name": call.Function.Name, "arguments": arguments}
	return seen{"tool": tool, "text": second.Choices[0].Message.Content}, nil
}

func structured(ctx context.Context, p plan) (seen, error) {
	c, body := client(p), asked(p)
	schema := shared.ResponseFormatJSONSchemaJSONSchemaParam{Name: "forecast", Schema: forecast, Strict: param.NewOpt(true)}
	body.ResponseFormat.OfJSONSchema = &shared.ResponseFormatJSONSchemaParam{JSONSchema: schema}
	answer, err := c.Chat.Completions.New(ctx, body)
	if err != nil {
		return nil, err
	}
	var object struct {
		City string `json:"city"`
		Days int    `json:"days"`
	}
	err = json.Unmarshal([]byte(answer.Choices[0].Message.Content), &object)
	return seen{"object": object}, err
}

func twice(ctx context.Context, p plan) (seen, error) {
	if _, err := plain(ctx, p); err != nil {
		return nil, err
	}
	return plain(ctx, p)
}

func embeddings(ctx context.Context, p plan) (seen, error) {
	c := client(p)
	input := openai.EmbeddingNewParamsInputUnion{OfArrayOfStrings: []string{"a", "b"}}
	answer, err := c.Embeddings.New(ctx, openai.EmbeddingNewParams{Model: p.Model, Input: input})
	if err != nil {
		return nil, err
	}
	return seen{"vector": answer.Data[1].Embedding}, nil
}

func models(ctx context.Context, p plan) (seen, error) {
	c := client(p)
	page := c.Models.ListAutoPaging(ctx)
	found := []string{}
	for page.Next() {
		found = append(found, page.Current().ID)
	}
	return seen{"models": found}, page.Err()
}

func disconnect(ctx context.Context, p plan) (seen, error) {
	c := client(p)
	chunks := c.Chat.Completions.NewStreaming(ctx, asked(p))
	left := 0
	for left < 3 && chunks.Next() {
		left++
	}
	if err := chunks.Err(); err != nil {
		return nil, err
	}
	return seen{"left": left}, chunks.Close()
}

func described(err error) seen {
	found := seen{"class": fmt.Sprintf("%T", err), "message": err.Error()}
	var own *openai.Error
	if errors.As(err, &own) {
		found["status"], found["code"], found["message"] = own.StatusCode, own.Code, own.Message
	}
	return found
}

func tell(result seen) {
	line, err := json.Marshal(result)
	if err != nil {
		panic(err)
	}
	fmt.Println("@@" + string(line))
}

func main() {
	versions := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, module := range info.Deps {
			if module.Path == "github.com/openai/openai-go/v3" {
				versions["openai-go"] = module.Version
			}
		}
	}
	tell(seen{"versions": versions})
	cases := map[string]func(context.Context, plan) (seen, error){
		"plain": plain, "stream": stream, "tools": tools, "structured output": structured, "401": plain, "403": plain,
		"429 burst": twice, "429 quota": twice, "embeddings": embeddings, "models": models, "disconnect": disconnect,
	}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var p plan
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			panic(err)
		}
		result, err := cases[p.Case](context.Background(), p)
		if err != nil {
			result = seen{"error": described(err)}
		}
		tell(result)
	}
}
